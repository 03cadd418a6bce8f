// Plain structs that the attention kernels and their callers share.
#pragma once

#include <cstdint>
#include <type_traits>

#include "base/dtype.h"
#include "kernels/attention/score.h"

namespace hone::kernels {

// Query i stands at position query_offset + i. Query head h reads key/value head h / (heads / kv_heads).
struct AttentionDims {
  int64_t batch = 1, queries = 0, keys = 0;
  int64_t heads = 1, kv_heads = 1, head_dim = 0;
  float scale = 1;  // of the scores, above 0; commonly 1 / sqrt(head_dim)
  int64_t query_offset = 0;
  ScoreRule score = {};
};

// Where the rows of sequences lie that are not in one piece: row t of sequence b is row t % rows of page
// of[b * sequence_stride + t / rows].
struct PagesOfRows {
  const int32_t* of = nullptr;  // null: there are no pages
  int64_t rows = 0;             // of a page: a multiple of attention_block, so that no block of keys is cut
  int64_t sequence_stride = 0;
};

// Rows of heads inside any buffer: element d of head h of row t of sequence b is data[b*batch_stride + t*row_stride +
// h*head_stride
// + d]. Strides count elements, so that q, k and v can lie in one projected row, and k and v in a cache. f32 or bf16.
// With pages, b and t are a page and a row of it.
struct ConstHeadRows {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t batch_stride = 0, row_stride = 0, head_stride = 0;
  PagesOfRows pages = {};
};

struct HeadRows {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t batch_stride = 0, row_stride = 0, head_stride = 0;
  PagesOfRows pages = {};

  operator ConstHeadRows() const { return {data, dtype, batch_stride, row_stride, head_stride, pages}; }
};

// The same rows seen from a sequence, row and head on: that one is then the first. With pages the row is the first of
// one.
template <class Rows>
[[gnu::always_inline]] inline Rows starting_at(Rows rows, int64_t sequence, int64_t row, int64_t head = 0) {
  constexpr bool is_const = std::is_same_v<Rows, ConstHeadRows>;
  if (rows.pages.of) {
    rows.pages.of += sequence * rows.pages.sequence_stride + row / rows.pages.rows;
    sequence = row = 0;
  }
  const int64_t elements = sequence * rows.batch_stride + row * rows.row_stride + head * rows.head_stride;
  rows.data = static_cast<std::conditional_t<is_const, const char, char>*>(rows.data) +
              elements * static_cast<int64_t>(size_of(rows.dtype));
  return rows;
}

// Rows from `row` of a sequence on, up to the end of its page, as if there were no pages.
template <class Rows>
inline Rows in_page(Rows rows, int64_t sequence, int64_t row) {
  if (!rows.pages.of) return starting_at(rows, sequence, row);
  const int32_t page = rows.pages.of[sequence * rows.pages.sequence_stride + row / rows.pages.rows];
  row %= rows.pages.rows;
  rows.pages = {};
  return starting_at(rows, page, row);
}

// Which keys a query sees besides blocks that a plan selects for it: those less than `window` positions away, itself
// included, and the `sinks` first ones of the sequence.
struct MaskRule {
  static constexpr int64_t unlimited = INT32_MAX;
  int64_t window = unlimited;  // 0: none
  int64_t sinks = 0;
  bool causal = true;  // never a key after itself; otherwise (in one pass alone, not from a cache) on either side

  bool operator==(const MaskRule&) const = default;
};

// Tokens of a query block and of a key block.
constexpr int64_t attention_block = 64;

// Queries of a block that share lanes: whether their running maxima rise is asked of all of them at once, so that the
// bits of one depend on the others. They stand at multiples of this from a call's first query on.
constexpr int64_t attention_lanes = 16;

// A pair of a query block and a key block with something to compute; in lists by query block `block` is the key block,
// in lists by key block the query block.
struct BlockVisit {
  int32_t block;
  bool partial;   // some pair of the two blocks is invisible, or the key block is not complete
  bool gathered;  // few queries see the key block, all of it, and the others nothing: they are computed together with
                  // those of other query blocks that see it, in tiles without gaps
  // Bit i: query i of the block sees the whole key block (as far as it is past), whatever the rule says.
  uint64_t queries;
};

// A visit of a few queries in a decode: rows 64 * block … of the cache.
struct DecodeVisit {
  int32_t block;
  uint64_t rows;  // bit r: query row r (query + queries * head of the group) sees the block as far as it is past,
                  // whatever the rule says; the other rows see what the rule shows of it
};

}  // namespace hone::kernels
