// Plain structs that the attention kernels and their callers share.
#pragma once

#include <cstdint>
#include <type_traits>

#include "base/dtype.h"

namespace hone::kernels {

// Query i stands at position query_offset + i. Query head h reads key/value head h / (heads / kv_heads).
struct AttentionDims {
  int64_t batch = 1, queries = 0, keys = 0;
  int64_t heads = 1, kv_heads = 1, head_dim = 0;
  float scale = 1;  // of the scores, above 0; commonly 1 / sqrt(head_dim)
  int64_t query_offset = 0;
};

// Rows of heads inside any buffer: element d of head h of row t of sequence b is data[b*batch_stride + t*row_stride +
// h*head_stride
// + d]. Strides count elements, so that q, k and v can lie in one projected row, and k and v in a cache. f32 or bf16.
struct ConstHeadRows {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t batch_stride = 0, row_stride = 0, head_stride = 0;
};

struct HeadRows {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t batch_stride = 0, row_stride = 0, head_stride = 0;

  operator ConstHeadRows() const { return {data, dtype, batch_stride, row_stride, head_stride}; }
};

// The same rows seen from a sequence, row and head on: that one is then the first.
template <class Rows>
[[gnu::always_inline]] inline Rows starting_at(Rows rows, int64_t sequence, int64_t row, int64_t head = 0) {
  constexpr bool is_const = std::is_same_v<Rows, ConstHeadRows>;
  const int64_t elements = sequence * rows.batch_stride + row * rows.row_stride + head * rows.head_stride;
  rows.data = static_cast<std::conditional_t<is_const, const char, char>*>(rows.data) +
              elements * static_cast<int64_t>(size_of(rows.dtype));
  return rows;
}

// Which keys a query sees besides blocks that a plan selects for it: the latest `window` ones, itself included, and the
// `sinks` first ones of the sequence. Never a key after itself.
struct MaskRule {
  static constexpr int64_t unlimited = INT32_MAX;
  int64_t window = unlimited;  // 0: none
  int64_t sinks = 0;

  bool operator==(const MaskRule&) const = default;
};

// Tokens of a query block and of a key block.
constexpr int64_t attention_block = 64;

// A pair of a query block and a key block with something to compute; in lists by query block `block` is the key block,
// in lists by key block the query block.
struct BlockVisit {
  int32_t block;
  bool partial;   // some pair of the two blocks is invisible, or the key block is not complete
  bool gathered;  // few queries see the key block, all of it, and the others nothing: they are computed together with
                  // those of other query blocks that see it, in tiles without gaps
  uint64_t
      queries;  // bit i: query i of the block sees the whole key block (as far as it is past), whatever the rule says
};

// A visit of a few queries in a decode: rows 64 * block … of the cache.
struct DecodeVisit {
  int32_t block;
  uint64_t rows;  // bit r: query row r (query + queries * head of the group) sees the block as far as it is past,
                  // whatever the rule says; the other rows see what the rule shows of it
};

}  // namespace hone::kernels
