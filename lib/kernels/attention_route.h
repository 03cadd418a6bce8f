// Routed attention: each query of each head visits its own block of keys and the past blocks whose mean key it scores
// highest (Mixture of Block Attention, Lu et al. 2025, arXiv 2502.13189, equations 5 to 8).
#pragma once

#include <vector>

#include "kernels/attention_plan.h"

namespace hone::kernels {

struct RouteRule {
  int64_t block = attention_block;  // tokens: a multiple of attention_block
  int64_t count = 1;                // blocks that a query visits, its own among them
  int64_t window = 0;               // and the latest tokens; blocks that it shows whole are not chosen
};

// Sums of the keys of each block of `block` positions, f32 [batch, kv_heads, blocks, head_dim]: what blocks are chosen
// by. A sum ranks blocks as a mean does, and the next key is added to it.
struct KeySums {
  const float* data = nullptr;
  int64_t batch_stride = 0, head_stride = 0;  // elements
  int64_t blocks = 0;                         // complete ones at least up to the first query's own block
};

// Adds the keys of positions first … first + rows - 1 of one sequence to its sums [kv_heads, blocks, head_dim]; a block
// begins with its first key, whatever its sum was. Keys are added one by one: all at once gives the same bits.
void add_key_sums(ConstHeadRows k, int64_t sequence, int64_t kv_heads, int64_t head_dim, int64_t first, int64_t rows,
                  int64_t block, float* sums, int64_t head_stride);

// The best count - 1 past blocks of every query: chosen[((sequence * heads + head) * query_blocks + i) * (count - 1) *
// 64 + n * 64 + c] is the n-th best of query 64 * i + c, -1 where there are no more. Of equal scores the earlier block
// wins. `chosen` becomes that large, whatever it held. dims.keys is not read.
void route(const AttentionDims& dims, ConstHeadRows q, const KeySums& sums, const RouteRule& rule,
           std::vector<int32_t>& chosen);

// The plan of a call whose keys stand at positions 0 … dims.keys - 1, with a list for each (sequence, head).
std::shared_ptr<const BlockPlan> routed_plan(const AttentionDims& dims, ConstHeadRows q, const KeySums& sums,
                                             const RouteRule& rule);

// For a single query of one sequence at position dims.query_offset: the visits for each key/value head, to append to
// DecodeVisits. `heads / kv_heads` is at most 64.
void routed_visits(const AttentionDims& dims, ConstHeadRows q, const KeySums& sums, const RouteRule& rule,
                   std::vector<int64_t>& starts, std::vector<DecodeVisit>& visits);

}  // namespace hone::kernels
