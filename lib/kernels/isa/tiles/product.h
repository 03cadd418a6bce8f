// The products of the tile unit, for anything that has its instructions: the processor (tmm.h) or their emulation
// (kernels/tiles/emulation.h). Two by two tiles of sums stay in registers over the contraction, four products for four
// loads; below 17 rows one by four. Everything is a template of Tiles: a plain inline function would be merged with its
// copy of another instruction set.
#pragma once

#include <utility>

#include "kernels/isa/gemm/table.h"
#include "kernels/panel.h"
#include "kernels/tiles/unit.h"

namespace hone::kernels::tiles {

// Numbers of tiles: sums 0 … 3, rows of A 4 and 5, of B 6 and 7.
inline constexpr int first_a = 4, first_b = 6;

template <int N>
struct Number {};

// f(Number<0>), …, f(Number<Count - 1>): numbers of tiles stand in the instruction.
template <class F, int... I>
[[gnu::always_inline]] inline void each_of(std::integer_sequence<int, I...>, F& f) {
  (f(Number<I>{}), ...);
}
template <int Count, class F>
[[gnu::always_inline]] inline void each(F f) {
  each_of(std::make_integer_sequence<int, Count>{}, f);
}

template <class Tiles>
void configure(Tiles& t, int64_t depth) {
  TileConfig config;
  config.palette = 1;
  for (int i = 0; i < first_b + 2; ++i) {
    const bool a = i >= first_a && i < first_b, b = i >= first_b;
    config.row_bytes[i] = static_cast<uint16_t>(4 * (a ? depth : side));
    config.rows[i] = static_cast<uint8_t>(b ? depth : side);
  }
  t.load_config(config);
}

template <class Tiles>
struct Edge {
  alignas(64) uint32_t words[side][side];
};

template <class Tiles>
struct Operand {
  const void* data;
  int64_t stride;  // bytes
};

// rows x words, of which a tile has at most all_rows x all_words: where they lie, or in `edge` with zeros behind them
// where there are fewer. Nothing beyond them is read.
template <class Tiles>
[[gnu::always_inline]] inline Operand<Tiles> whole(const void* from, int64_t stride, int64_t rows, int64_t words,
                                                   int64_t all_rows, int64_t all_words, Edge<Tiles>& edge) {
  if (rows >= all_rows && words >= all_words) return {from, stride};
  const int64_t row_count = rows < all_rows ? rows : all_rows, count = words < all_words ? words : all_words;
  __builtin_memset(edge.words, 0, sizeof edge.words);
  for (int64_t r = 0; r < row_count; ++r)
    __builtin_memcpy(edge.words[r], static_cast<const char*>(from) + r * stride, static_cast<size_t>(4 * count));
  return {edge.words, 4 * side};
}

// What the sums of Rows x Columns tiles are of: word (r, p) of A lies r * a_row + 4 * p bytes after a, row p of B 256
// bytes (a step of a panel) after the one before.
template <class Tiles>
struct Factors {
  const char* a;
  int64_t a_row, rows;
  const char* b;
  int64_t words, depth;
};

// Adds the products to the sums in tiles. `multiply` names the instruction.
template <int Rows, int Columns, class Tiles, class Multiply>
[[gnu::always_inline]] inline void add_products(Tiles& t, const Factors<Tiles>& f, Multiply multiply) {
  constexpr int64_t step = 4 * panel_rows;
  Edge<Tiles> a_edges[Rows], b_edges[Columns];
  for (int64_t k = 0; k < f.words; k += f.depth) {
    const int64_t words = f.words - k;
    each<Rows>([&]<int r>(Number<r>) {
      constexpr int64_t first = side * r;
      const auto a =
          whole<Tiles>(f.a + first * f.a_row + 4 * k, f.a_row, f.rows - first, words, side, f.depth, a_edges[r]);
      t.template load<first_a + r>(a.data, a.stride);
    });
    each<Columns>([&]<int c>(Number<c>) {
      constexpr int b_tile = first_b + c % 2;
      const auto b = whole<Tiles>(f.b + k * step + 4 * side * c, step, words, side, f.depth, side, b_edges[c]);
      t.template load<b_tile>(b.data, b.stride);
      each<Rows>(
          [&]<int r>(Number<r>) { multiply(Number<r * Columns + c>{}, Number<first_a + r>{}, Number<b_tile>{}); });
    });
  }
}

template <class Tiles>
[[gnu::always_inline]] inline uint16_t rounded_half(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, sizeof u);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, quiet = (u >> 16) | 0x40u;
  return static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

// Tiles of sums from and to memory, rows `stride` bytes apart.
template <int Rows, int Columns, class Tiles>
[[gnu::always_inline]] inline void load_sums(Tiles& t, const void* from, int64_t stride) {
  each<Rows * Columns>([&]<int i>(Number<i>) {
    constexpr int64_t row = side * (i / Columns), byte = 4 * side * (i % Columns);
    t.template load<i>(static_cast<const char*>(from) + row * stride + byte, stride);
  });
}
template <int Rows, int Columns, class Tiles>
[[gnu::always_inline]] inline void store_sums(Tiles& t, void* to, int64_t stride) {
  each<Rows * Columns>([&]<int i>(Number<i>) {
    constexpr int64_t row = side * (i / Columns), byte = 4 * side * (i % Columns);
    t.template store<i>(static_cast<char*>(to) + row * stride + byte, stride);
  });
}

// Rows [row, row + rows) of the product, at most 16 * Rows, and columns [column, column + 16 * Columns).
template <int Rows, int Columns, class Tiles>
void product_block(Tiles& t, const PanelProduct& p, int64_t row, int64_t rows, int64_t column) {
  constexpr int64_t width = side * Columns;
  alignas(64) float sums[side * Rows][width];
  const bool direct = !p.half && rows == side * Rows;
  float* const c = p.half ? nullptr : static_cast<float*>(p.c) + row * p.c_stride + column;
  if (!p.accumulate) {
    each<Rows * Columns>([&]<int i>(Number<i>) { t.template zero<i>(); });
  } else if (direct) {
    load_sums<Rows, Columns>(t, c, 4 * p.c_stride);
  } else {
    __builtin_memset(sums, 0, sizeof sums);
    for (int64_t r = 0; r < rows; ++r) __builtin_memcpy(sums[r], c + r * p.c_stride, sizeof sums[r]);
    load_sums<Rows, Columns>(t, sums, sizeof sums[0]);
  }
  const Factors<Tiles> factors{
      p.a + row * p.a_row, p.a_row, rows, reinterpret_cast<const char*>(p.panel + 2 * column), p.pairs, side};
  add_products<Rows, Columns>(t, factors, [&]<int sum, int a, int b>(Number<sum>, Number<a>, Number<b>) {
    t.template dot_halves<sum, a, b>();
  });
  if (direct) return store_sums<Rows, Columns>(t, c, 4 * p.c_stride);
  store_sums<Rows, Columns>(t, sums, sizeof sums[0]);
  for (int64_t r = 0; r < rows; ++r) {
    if (p.half) {
      bf16* to = static_cast<bf16*>(p.c) + (row + r) * p.c_stride + column;
      for (int64_t i = 0; i < width; ++i) to[i].bits = rounded_half<Tiles>(sums[r][i]);
    } else {
      __builtin_memcpy(c + r * p.c_stride, sums[r], sizeof sums[r]);
    }
  }
}

// Blocks of 2 x 2 tiles, two of them side by side, and of 1 x 4 where the last rows fill one tile: block(tiles of rows,
// tiles of columns, first row, rows, first column).
template <class F>
void each_block(int64_t all_rows, F&& block) {
  for (int64_t row = 0; row < all_rows; row += 2 * side) {
    const int64_t rows = all_rows - row < 2 * side ? all_rows - row : 2 * side;
    if (rows <= side) {
      block(Number<1>(), Number<4>(), row, rows, 0);
    } else {
      block(Number<2>(), Number<2>(), row, rows, 0);
      block(Number<2>(), Number<2>(), row, rows, 2 * side);
    }
  }
}

// TileUnit::product.
template <class Tiles>
void product(Tiles& t, const PanelProduct& p) {
  each_block(p.rows, [&]<int r, int c>(Number<r>, Number<c>, int64_t row, int64_t rows, int64_t column) {
    product_block<r, c>(t, p, row, rows, column);
  });
}

template <int Rows, int Columns, class Tiles>
void segment_block(Tiles& t, const ByteSegment& s, int64_t row, int64_t rows, int64_t column) {
  constexpr int64_t width = side * Columns;
  alignas(64) int32_t sums[side * Rows][width];
  each<Rows * Columns>([&]<int i>(Number<i>) { t.template zero<i>(); });
  const Factors<Tiles> factors{reinterpret_cast<const char*>(s.x + row * s.row_bytes), s.row_bytes, rows,
                               reinterpret_cast<const char*>(s.tiles) + 4 * column,    s.steps,     s.depth};
  add_products<Rows, Columns>(
      t, factors, [&]<int sum, int a, int b>(Number<sum>, Number<a>, Number<b>) { t.template dot_bytes<sum, a, b>(); });
  store_sums<Rows, Columns>(t, sums, sizeof sums[0]);
  float scales[width];
  for (int64_t i = 0; i < width; ++i) {
    const uint32_t bits = static_cast<uint32_t>(s.scales[column + i].bits) << 16;
    __builtin_memcpy(&scales[i], &bits, sizeof bits);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const auto start = static_cast<uint32_t>(s.starts[row + r]);
    const float x_scale = s.x_scales[row + r];
    float* y = s.y + (row + r) * panel_rows + column;
    for (int64_t i = 0; i < width; ++i) {
      const auto total = static_cast<int32_t>(static_cast<uint32_t>(sums[r][i]) + start);
      y[i] = __builtin_fmaf(static_cast<float>(total), scales[i] * x_scale, y[i]);
    }
  }
}

// TileUnit::add_segment.
template <class Tiles>
void add_segment(Tiles& t, const ByteSegment& s) {
  each_block(s.rows, [&]<int r, int c>(Number<r>, Number<c>, int64_t row, int64_t rows, int64_t column) {
    segment_block<r, c>(t, s, row, rows, column);
  });
}

}  // namespace hone::kernels::tiles
