// Routed attention: each query of each head visits its own block of keys and the past blocks that it scores highest
// (Mixture of Block Attention, Lu et al. 2025, arXiv 2502.13189, equations 5 to 8). A query's score of a block is its
// product with the mean of the block's keys, as there, and a share of what the largest product within the extremes of
// those keys (Quest, Tang et al. 2024, arXiv 2406.10774, section 3.2) has beyond that. In a mean of many keys the one
// that matters disappears; extremes show it, but alone they prefer blocks whose keys differ much, whatever the query.
#pragma once

#include <vector>

#include "kernels/attention/plan.h"

namespace hone::kernels {

struct RouteRule {
  int64_t block = attention_block;  // tokens: a multiple of attention_block
  int64_t count = 1;                // blocks that a query visits, its own among them
  int64_t window = 0;               // and the latest tokens; blocks that it shows whole are not chosen
};

// Of what the extremes' score has beyond the mean's. At a quarter the blocks chosen in text keep as much of the
// attention as by the mean, and the one key of a recall task is found; docs/results has others, from 0.05 to 1.
inline constexpr float extreme_share = 0.25f;

// The keys of each block of `block` positions, f32 [batch, kv_heads, blocks, 3, head_dim]: their sum, and of each
// dimension the largest number and the smallest.
struct KeySummaries {
  static constexpr int64_t rows = 3;  // of a block

  const float* data = nullptr;
  int64_t batch_stride = 0, head_stride = 0;  // elements
  int64_t blocks = 0;                         // complete ones at least up to the first query's own block

  // Of an array as above.
  static KeySummaries of(const float* data, int64_t kv_heads, int64_t blocks, int64_t head_dim) {
    const int64_t head = blocks * rows * head_dim;
    return {data, kv_heads * head, head, blocks};
  }
};

// Adds the keys of positions first … first + rows - 1 of one sequence to its summaries [kv_heads, blocks, 3, head_dim];
// a block begins with its first key, whatever its summary was. Keys are added one by one: all at once gives the same
// bits.
void summarize_keys(ConstHeadRows k, int64_t sequence, int64_t kv_heads, int64_t head_dim, int64_t first, int64_t rows,
                    int64_t block, float* summaries, int64_t head_stride);

// The best count - 1 past blocks of every query: chosen[((sequence * heads + head) * query_blocks + i) * (count - 1) *
// 64 + n * 64 + c] is the n-th best of query 64 * i + c, -1 where there are no more. Of equal scores the earlier block
// wins. `chosen` becomes that large, whatever it held. dims.keys is not read.
void route(const AttentionDims& dims, ConstHeadRows q, const KeySummaries& summaries, const RouteRule& rule,
           std::vector<int32_t>& chosen);

// The plan of a call whose keys stand at positions 0 … dims.keys - 1, with a list for each (sequence, head).
std::shared_ptr<const BlockPlan> routed_plan(const AttentionDims& dims, ConstHeadRows q, const KeySummaries& summaries,
                                             const RouteRule& rule);

// For a single query of one sequence at position dims.query_offset: the visits for each key/value head, to append to
// DecodeVisits. `heads / kv_heads` is at most 64.
void routed_visits(const AttentionDims& dims, ConstHeadRows q, const KeySummaries& summaries, const RouteRule& rule,
                   std::vector<int64_t>& starts, std::vector<DecodeVisit>& visits);

}  // namespace hone::kernels
