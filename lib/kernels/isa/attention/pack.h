// Operands of attention tiles: rows copied, converted, interleaved and transposed into the units of
// product.h; and the visibility of a tile. Included only by kernels/isa/attention/*.cpp.
#pragma once

#include "kernels/isa/attention/product.h"
#include "kernels/isa/attention/table.h"

namespace hone::kernels::HONE_ISA {

constexpr int64_t tile = attention_block;
constexpr int64_t group = attention_lanes;  // keys, or queries, whose visibility is looked at together
constexpr int groups = tile / group;
static_assert(group % lanes == 0, "who begins at a multiple of a group finds the same queries in its lanes");
constexpr float log2_e = 1.44269504088896341f, ln_2 = 0.693147180559945309f;
constexpr float lowest_top = -1e30f;  // a running maximum before anything was seen

template <class T>
inline const T* rows_of(const ConstHeadRows& x, int64_t sequence, int64_t row, int64_t head) {
  if (x.pages.of) {
    sequence = x.pages.of[sequence * x.pages.sequence_stride + row / x.pages.rows];
    row %= x.pages.rows;
  }
  return static_cast<const T*>(x.data) + sequence * x.batch_stride + row * x.row_stride + head * x.head_stride;
}
template <class T>
inline T* rows_of(const HeadRows& x, int64_t sequence, int64_t row, int64_t head) {
  return static_cast<T*>(x.data) + sequence * x.batch_stride + row * x.row_stride + head * x.head_stride;
}

// Rows that will be needed soon. Heads' rows lie far apart in memory, where the processor does not foresee them: they
// are asked for here, a few lines at a time, between the products of the work before.
class RowsAhead {
 public:
  static constexpr int some = 32, all = INT32_MAX;  // rows of a step; measured: 16 hides less, 32 as much as more

  void clear() { next_ = count_ = 0; }

  template <class T>
  void read(const T* rows, int64_t stride, int64_t count, int64_t width) {
    add(reinterpret_cast<const char*>(rows), stride * static_cast<int64_t>(sizeof(T)), count,
        width * static_cast<int64_t>(sizeof(T)), false);
  }
  template <class T>
  void write(const T* rows, int64_t stride, int64_t count, int64_t width) {
    add(reinterpret_cast<const char*>(rows), stride * static_cast<int64_t>(sizeof(T)), count,
        width * static_cast<int64_t>(sizeof(T)), true);
  }

  void step(int rows) {
    for (; rows > 0 && next_ < count_; --rows) {
      Rows& r = waiting_[next_];
      for (int64_t at = 0; at < r.bytes; at += 64)
        r.write ? __builtin_prefetch(r.data + at, 1, 2) : __builtin_prefetch(r.data + at, 0, 2);
      r.data += r.stride;
      if (--r.count == 0) ++next_;
    }
  }

 private:
  struct Rows {
    const char* data;
    int64_t stride, count, bytes;
    bool write;
  };
  void add(const char* data, int64_t stride, int64_t count, int64_t bytes, bool write) {
    if (count > 0 && count_ < most) waiting_[count_++] = {data, stride, count, bytes, write};
  }
  static constexpr int most = 12;
  Rows waiting_[most];
  int next_ = 0, count_ = 0;
};

// Sizes that follow from the head's width.
template <class Op>
struct Width {
  int64_t dim, padded, units, units16;  // units16: a multiple of 16, for transposition
  explicit Width(int64_t head_dim)
      : dim(head_dim),
        padded((head_dim + 15) / 16 * 16),
        units(padded / Op::per_unit),
        units16((units + 15) / 16 * 16) {}
};

// Hands out the pieces of a scratch buffer, or measures them when there is none.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<char*>(base)) {}
  template <class T>
  T* take(int64_t count) {
    char* piece = base_ ? base_ + used_ : nullptr;
    used_ += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return reinterpret_cast<T*>(piece);
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

// Rows are short and lie far apart: copied here, not by a call, so that the loads of many rows are under way at once.
template <class T>
inline void convert_row(const T* from, T* to, int64_t n) {
  typedef char Piece __attribute__((vector_size(32)));
  const auto* source = reinterpret_cast<const char*>(from);
  auto* target = reinterpret_cast<char*>(to);
  const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
  int64_t at = 0;
#pragma GCC unroll 4
  for (; at + 32 <= bytes; at += 32) {
    Piece piece;
    __builtin_memcpy(&piece, source + at, 32);
    __builtin_memcpy(target + at, &piece, 32);
  }
  for (; at < bytes; ++at) target[at] = source[at];
}
inline void convert_row(const bf16* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = widen(from[i]);
}

// to[tile][units16]: `count` rows of width.dim elements as operand elements, zeros elsewhere.
template <class Op, class T>
inline void pack_rows(const Width<Op>& width, const T* from, int64_t stride, int64_t count, Unit* to) {
  using Element = typename Op::Element;
  const int64_t row_bytes = width.units16 * static_cast<int64_t>(sizeof(Unit));
  for (int64_t r = 0; r < count; ++r) {
    char* row = reinterpret_cast<char*>(to + r * width.units16);
    convert_row(from + r * stride, reinterpret_cast<Element*>(row), width.dim);
    const int64_t filled = width.dim * static_cast<int64_t>(sizeof(Element));
    if (filled < row_bytes) __builtin_memset(row + filled, 0, static_cast<size_t>(row_bytes - filled));
  }
  if (count < tile) __builtin_memset(to + count * width.units16, 0, static_cast<size_t>((tile - count) * row_bytes));
}

// A block of rows in units, `stride` units apart.
struct UnitRows {
  const Unit* data;
  int64_t stride;
};

// The rows themselves where they are whole and of the operand's type, else packed into `room`.
template <class Op, class T>
inline UnitRows rows_as_units(const Width<Op>& width, const T* from, int64_t stride, int64_t count, Unit* room) {
  if constexpr (sizeof(T) == sizeof(typename Op::Element)) {
    if (count == tile && width.dim == width.units16 * Op::per_unit && stride % Op::per_unit == 0)
      return {reinterpret_cast<const Unit*>(from), stride / Op::per_unit};
  }
  pack_rows<Op>(width, from, stride, count, room);
  return {room, width.units16};
}

// to[count / per_unit][padded]: units that hold neighbouring rows, for contraction over rows; count is even.
template <class Op>
inline void interleave_rows(const Width<Op>& width, UnitRows rows, Unit* to, int64_t count = tile) {
  if constexpr (Op::per_unit == 1) {
    for (int64_t r = 0; r < count; ++r)
      convert_row(reinterpret_cast<const float*>(rows.data + r * rows.stride),
                  reinterpret_cast<float*>(to + r * width.padded), width.padded);
  } else {
    for (int64_t r = 0; r < count; r += 2, to += width.padded) {
      const auto* even = reinterpret_cast<const uint16_t*>(rows.data + r * rows.stride);
      const auto* odd = reinterpret_cast<const uint16_t*>(rows.data + (r + 1) * rows.stride);
      for (int64_t d = 0; d < width.padded; ++d) to[d] = even[d] | static_cast<uint32_t>(odd[d]) << 16;
    }
  }
}

// to[units16][tile]: `count` rows (a multiple of 16) become columns, for contraction over the head's width.
template <class Op>
inline void transpose_rows(const Width<Op>& width, UnitRows rows, Unit* to, int64_t count = tile) {
  for (int64_t r = 0; r < count; r += 16)
    for (int64_t u = 0; u < width.units16; u += 16)
      transpose16(rows.data + r * rows.stride + u, rows.stride, to + u * tile + r, tile);
}

// Columns of width.padded x tile sums, column c times factors[c], as `count` rows of T. rows: room for [tile][padded].
// With `added`, [tile][padded] rows, row c of that times added_factors[c] is added.
template <class Op, class T>
inline void write_columns(const Width<Op>& width, const float* sums, const float* factors, int64_t count, T* to,
                          int64_t stride, float* rows, const float* added = nullptr,
                          const float* added_factors = nullptr) {
  for (int64_t r = 0; r < count; r += 16)
    for (int64_t d = 0; d < width.padded; d += 16)
      transpose16(reinterpret_cast<const Unit*>(sums + d * tile + r), tile,
                  reinterpret_cast<Unit*>(rows + r * width.padded + d), width.padded);
  if (!added) {
    for (int64_t r = 0; r < count; ++r) narrow(rows + r * width.padded, factors[r], to + r * stride, width.dim);
    return;
  }
  for (int64_t r = 0; r < count; ++r) {
    float* row = rows + r * width.padded;
    const float* other = added + r * width.padded;
    for (int64_t d = 0; d < width.padded; d += lanes)
      store(row + d, load(row + d) * factors[r] + load(other + d) * added_factors[r]);
    narrow(row, 1.f, to + r * stride, width.dim);
  }
}

// What the queries of a block (columns) see of the keys of a block (rows), by groups of 16 keys.
struct TileMask {
  uint64_t visible[tile];          // bit c of entry r: column c sees key r; set only for groups with `masked`
  int begin[groups], end[groups];  // columns that see any key of the group, in steps of 16; equal when none does
  uint64_t all[groups];            // columns that see every key of the group
};

inline void see_all(TileMask& mask, int columns) {
  for (int g = 0; g < groups; ++g) {
    mask.begin[g] = 0;
    mask.end[g] = columns;
    mask.all[g] = ~uint64_t{0};
  }
}

// Bits 0 … n - 1; n is clamped to 0 … 64.
constexpr uint64_t low_bits(int64_t n) {
  return n <= 0 ? 0 : n >= 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1;
}

inline void see(TileMask& mask, const AttentionArgs& args, int64_t query_block, int64_t key_block, uint64_t selected,
                int columns) {
  const int64_t first = args.dims.query_offset + query_block * tile;
  const uint64_t used = low_bits(columns);
  for (int g = 0; g < groups; ++g) {
    uint64_t any = 0, all = ~uint64_t{0};
    for (int64_t r = g * group; r < (g + 1) * group; ++r) {
      const int64_t row = key_block * tile + r;
      int64_t position = -1;
      if (row < args.dims.keys) position = args.key_positions ? args.key_positions[row] : row;
      uint64_t bits = 0;
      if (position >= 0) {
        const uint64_t close = position < args.sinks ? ~uint64_t{0} : low_bits(position + args.window - first);
        if (args.causal)
          bits = ~low_bits((args.seen_from ? args.seen_from[row] : position) - first) & (selected | close);
        else
          bits = selected | (position < args.sinks ? close : close & ~low_bits(position - args.window + 1 - first));
      }
      mask.visible[r] = bits;
      any |= bits;
      all &= bits;
    }
    any &= used;
    mask.all[g] = all;
    mask.begin[g] = any ? __builtin_ctzll(any) / 16 * 16 : 0;
    mask.end[g] = any ? (64 - __builtin_clzll(any) + 15) / 16 * 16 : 0;
  }
}

// Puts -infinity in place of the scores of group g (scores: its 16 rows of `tile` columns) that are not visible.
inline void hide(const TileMask& mask, int g, float* scores) {
  for (int c = mask.begin[g]; c < mask.end[g]; c += lanes) {
    constexpr uint32_t lane_bits = static_cast<uint32_t>(low_bits(lanes));
    if ((static_cast<uint32_t>(mask.all[g] >> c) & lane_bits) == lane_bits) continue;
    for (int r = 0; r < group; ++r) {
      float* at = scores + r * tile + c;
      store(at, keep(load(at), static_cast<uint32_t>(mask.visible[g * group + r] >> c) & lane_bits));
    }
  }
}

// The first group after g whose columns differ from those of group g.
inline int same_columns(const TileMask& mask, int g) {
  int next = g + 1;
  while (next < groups && mask.begin[next] == mask.begin[g] && mask.end[next] == mask.end[g]) ++next;
  return next;
}

}  // namespace hone::kernels::HONE_ISA
