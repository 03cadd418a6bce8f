// The table of attention functions that each instruction set fills, and what they are given. Plain structs: files of
// every instruction set include this.
#pragma once

#include <cstddef>

#include "kernels/attention/cache_code.h"
#include "kernels/attention/types.h"

namespace hone::kernels {

// Starts and visits of one orientation of a plan.
struct VisitLists {
  const int64_t* starts = nullptr;
  const BlockVisit* visits = nullptr;
  int64_t blocks = 0;  // of the orientation: list l begins at starts[l * (blocks + 1)]
};

struct AttentionArgs {
  AttentionDims dims;
  ConstHeadRows q, k, v, out, d_out;
  HeadRows out_written, dq, dk, dv;
  float* lse_written = nullptr;  // [batch, heads, queries]
  const float* lse = nullptr;
  VisitLists by_query, by_key;
  int64_t lists = 1;
  const int32_t* key_positions = nullptr;
  const int32_t* seen_from = nullptr;  // BlockPlan::seen_from, or null
  int64_t window = 0, sinks = 0;
  bool causal = true;
  bool gathered = false;  // some visit is
};

// All query heads of one key/value head, for query blocks begin … end - 1.
struct ForwardItem {
  int64_t sequence = 0, kv_head = 0, begin = 0, end = 0;
  // [key blocks]; on entry -1 for the blocks that the item visits, each is packed on its first visit.
  int32_t* slots = nullptr;
  int64_t slot_count = 0;
  void* scratch = nullptr;
  const ForwardItem* next = nullptr;  // what this thread will do next, to have its rows in the cache in time
};

// One query head, for the key blocks `part`, part + parts, part + 2 * parts, …
struct BackwardItem {
  int64_t sequence = 0, head = 0, part = 0, parts = 1;
  float* dq = nullptr;   // [query blocks][padded head_dim][64], written; where visits are gathered as many floats
                         // follow, [query blocks * 64][padded head_dim]: the part of gathered tiles
  float* dkv = nullptr;  // null, or [key blocks][2][64][padded head_dim]: sums over the query heads of a key/value head
  void* scratch = nullptr;
  bool first = true, last = true;  // of those query heads: the first writes the sums, the last also dk and dv
  int64_t next_sequence = -1, next_head = 0;  // what this thread will do next, if anything
};

struct DecodeArgs {
  int64_t queries, heads, kv_heads, head_dim;
  float scale;
  int64_t window, sinks;
  ConstHeadRows q, k, v;
  ConstHeadRows k_scales, v_scales;  // of codes
  ScoreRule score;
  CacheCode code;  // of k and v
};

// Rows of codes of one head, one after the other, with their scales.
struct CodeRows {
  CacheCode code;
  int64_t head_dim;
  uint8_t* codes;
  bf16* scales;
};

// The queries of one sequence for one key/value head against rows begin … end - 1 of the cache.
struct DecodeItem {
  int64_t sequence = 0, kv_head = 0, begin = 0, end = 0;
  int64_t query_position = 0;
  int64_t key_sequence = 0;                // whose rows of the cache are read
  const int32_t* key_positions = nullptr;  // of this sequence, or null
  const DecodeVisit* visits = nullptr;     // null: rows begin … end - 1; else these blocks, of rows below end
  int64_t visit_count = 0;
  float* sums = nullptr;    // [rows][padded head_dim]: the sum of p * v; rows = queries * heads / kv_heads
  float* tops = nullptr;    // [rows] largest score in units of log2, -1e30 when nothing is visible
  float* totals = nullptr;  // [rows] sum of p
  void* scratch = nullptr;
  const DecodeItem* next = nullptr;  // what this thread will likely do next, or null: its first rows are loaded in time
};

// Choosing blocks for queries, see kernels/attention/route.h. `count` is without the query's own block.
struct RouteArgs {
  AttentionDims dims;
  ConstHeadRows q;
  const float* summaries = nullptr;
  int64_t summaries_batch_stride = 0, summaries_head_stride = 0, blocks = 0;
  int64_t block = 0, count = 0, window = 0, query_blocks = 0;
  int32_t* chosen = nullptr;
};

// All query heads of one key/value head, for query blocks begin … end - 1.
struct RouteItem {
  int64_t sequence = 0, kv_head = 0, begin = 0, end = 0;
  void* scratch = nullptr;
};

struct AttentionKernels {
  size_t (*forward_scratch)(const AttentionArgs&, const ForwardItem&);
  void (*forward)(const AttentionArgs&, const ForwardItem&);
  size_t (*backward_scratch)(const AttentionArgs&);
  void (*backward)(const AttentionArgs&, const BackwardItem&);
  // Adds the parts of dq and writes one head's rows; parts are `part_stride` floats apart.
  void (*backward_finish)(const AttentionArgs&, int64_t sequence, int64_t head, const float* dq, int64_t parts,
                          int64_t part_stride, void* scratch);
  size_t (*decode_scratch)(const DecodeArgs&);
  void (*decode)(const DecodeArgs&, const DecodeItem&);
  size_t (*route_scratch)(const RouteArgs&);
  void (*route)(const RouteArgs&, const RouteItem&);
  // Adds `rows` keys of one head, of positions from `first` on, to the summaries of their blocks [blocks][3][head_dim].
  void (*summarize_head)(const ConstHeadRows& k, int64_t sequence, int64_t head, int64_t first, int64_t rows,
                         int64_t head_dim, int64_t block, float* summaries);
  // `count` rows of one head to codes and back. room: padded_head_dim() floats.
  void (*encode_rows)(const CodeRows& to, const ConstHeadRows& from, int64_t count, float* room);
  void (*decode_rows)(const CodeRows& from, const HeadRows& to, int64_t count, float* room);
  void (*rotate)(float* row, int64_t n);  // as rows of codes are
};

// head_dim as the tiles pad it.
constexpr int64_t padded_head_dim(int64_t head_dim) {
  return (head_dim + 15) / 16 * 16;
}

}  // namespace hone::kernels
