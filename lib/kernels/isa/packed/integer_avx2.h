// Products of integers where a processor multiplies pairs of 16 bits (vpmaddwd) but has no dot products of bytes. Each
// of the 8 vectors of a step, 8 rows by 4 columns, becomes two of pairs: its even bytes and its odd ones. Activations
// of a step are a[0] a[2] a[1] a[3], 16 bits each.
#pragma once

#include "kernels/isa/float_bits.h"
#include "kernels/isa/packed/segment.h"
#include "kernels/isa/packed/source.h"

namespace hone::kernels::HONE_ISA::integers {

// Codes that are the bytes of tiles, 8 / bits tiles to a byte (packed.h): products read them as they lie.
template <int bits>
struct TileCodes {
  static constexpr int64_t bytes = step_bytes * bits / 8;  // of a step
  static constexpr int shared = 8 / bits;

  // The pairs of vector i of a step, a constant once loops are unrolled: of even bytes, and of odd ones.
  static inline __attribute__((always_inline)) __m256i pairs(const uint8_t* step, int i, bool odd) {
    const int tile = i / 2, shift = tile % shared * bits + 8 * odd;
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(step + tile / shared * 64 + i % 2 * 32));
    const __m256i low = shift ? _mm256_srli_epi16(v, shift) : v;
    return shift + bits < 16 ? _mm256_and_si256(low, _mm256_set1_epi16((1 << bits) - 1)) : low;
  }
};

inline __attribute__((always_inline)) __m256i pair_at(const uint8_t* x) {
  int32_t pair;
  __builtin_memcpy(&pair, x, sizeof pair);
  return _mm256_set1_epi32(pair);
}

// As assembly: GCC 12 adds products to each other before sums, and leaves half of these in memory.
inline __attribute__((always_inline)) void add_pairs(__m256i& sum, __m256i w, __m256i x) {
  __m256i product;
  asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=x"(product) : "x"(w), "x"(x));
}
// Two rows of vectors of weights meet the pair at x.
inline __attribute__((always_inline)) void add_pairs(__m256i sum[2], __m256i w0, __m256i w1, const uint8_t* x) {
  __m256i first, second;
  asm("vpbroadcastd %6, %3\n\tvpmaddwd %3, %4, %2\n\tvpmaddwd %3, %5, %3\n\tvpaddd %2, %0, %0\n\tvpaddd %3, %1, %1"
      : "+x"(sum[0]), "+x"(sum[1]), "=&x"(first), "=&x"(second)
      : "x"(w0), "x"(w1), "m"(*reinterpret_cast<const uint8_t(*)[4]>(x)));
}

// y[8] += what the sums of 8 rows of weights and a row of x are worth.
inline __attribute__((always_inline)) void add_results(__m256i sum, const bf16* scales, float x_scale, float* y) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(scales));
  const __m256 scale = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  const __m256 worth = _mm256_mul_ps(scale, _mm256_set1_ps(x_scale));
  _mm256_storeu_ps(y, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), worth, _mm256_loadu_ps(y)));
}

// One row of x and all rows of the panel, in the order of the bytes.
template <class C>
inline void add_row(const uint8_t* tiles, const Segment& s, float* y, LoadAhead ahead) {
  __m256i sum[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) sum[i] = _mm256_set1_epi32(s.starts[0]);
  const uint8_t* x = s.x;
  for (int64_t n = 0; n < s.steps; ++n, tiles += C::bytes, x += 8) {
    const __m256i a02 = pair_at(x), a13 = pair_at(x + 4);
    for (int64_t line = 0; line < C::bytes; line += 64) ahead();
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      add_pairs(sum[i], C::pairs(tiles, i, false), a02);
      add_pairs(sum[i], C::pairs(tiles, i, true), a13);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) add_results(sum[i], s.scales + 8 * i, s.x_scales[0], y + 8 * i);
}

constexpr int tallest = 5;  // 10 sums beside two vectors of pairs and two of products

// M rows of x and vectors `first` and `first` + 1 of each step.
template <int M, int first, class C>
inline void add_tile(const uint8_t* tiles, const Segment& s, float* y, LoadAhead& ahead) {
  __m256i sum[M][2];
#pragma GCC unroll 5
  for (int m = 0; m < M; ++m) sum[m][0] = sum[m][1] = _mm256_set1_epi32(s.starts[m]);
  const uint8_t* x = s.x;
  LoadAhead next = ahead;
  for (int64_t n = 0; n < s.steps; ++n, tiles += C::bytes, x += 8) {
    next();
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
      const __m256i w0 = C::pairs(tiles, first, odd), w1 = C::pairs(tiles, first + 1, odd);
#pragma GCC unroll 5
      for (int m = 0; m < M; ++m) add_pairs(sum[m], w0, w1, x + m * s.row_bytes + 4 * odd);
      asm("" : "+r"(tiles));  // bytes are loaded again, not kept
    }
  }
  ahead = next;
#pragma GCC unroll 5
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v)
      add_results(sum[m][v], s.scales + 8 * (first + v), s.x_scales[m], y + m * 64 + 8 * (first + v));
}

// Calls add(s, y, count) for the rows of x in blocks as even as they come.
template <class Add>
inline void in_even_blocks(Segment s, int64_t rows, float* y, Add add) {
  int64_t blocks = (rows + tallest - 1) / tallest;
  for (int64_t count; rows > 0; rows -= count, --blocks) {
    count = (rows + blocks - 1) / blocks;
    add(s, y, count);
    s.x += count * s.row_bytes;
    s.starts += count;
    s.x_scales += count;
    y += count * 64;
  }
}

template <int first, class C>
inline void add_tiles(const uint8_t* tiles, const Segment& s, int64_t rows, float* y, LoadAhead& ahead) {
  in_even_blocks(s, rows, y, [&](const Segment& part, float* to, int64_t count) {
    if (count == 5) add_tile<5, first, C>(tiles, part, to, ahead);
    if (count == 4) add_tile<4, first, C>(tiles, part, to, ahead);
    if (count == 3) add_tile<3, first, C>(tiles, part, to, ahead);
    if (count == 2) add_tile<2, first, C>(tiles, part, to, ahead);
    if (count == 1) add_tile<1, first, C>(tiles, part, to, ahead);
  });
}

// A segment's products with more rows of x than one. The loading of the segment after it, which starts at `next` and
// has step_size bytes a step, is spread over them.
template <class C>
inline void add_rows(const uint8_t* tiles, const Segment& s, int64_t rows, float* y, const uint8_t* next,
                     int64_t step_size) {
  LoadAhead ahead{next, step_size / (4 * ((rows + tallest - 1) / tallest))};
  add_tiles<0, C>(tiles, s, rows, y, ahead);
  add_tiles<2, C>(tiles, s, rows, y, ahead);
  add_tiles<4, C>(tiles, s, rows, y, ahead);
  add_tiles<6, C>(tiles, s, rows, y, ahead);
}

// bits: of codes that are the bytes of tiles, in the layout `panels`; else 0.
template <int Planes, class Source, int Zero, int bits>
void product(const PackedPanel& panel, const PackedInput& x, float* y, [[maybe_unused]] uint8_t* scratch) {
  for (int64_t i = 0; i < x.rows * 64; ++i) y[i] = 0;
  [[maybe_unused]] Source source(panel);
  const uint8_t* tiles = panel.values;
  Segment s{x.data, x.row_bytes, x.starts, x.scales, panel.scales, 0};
  for (int64_t begin = 0; begin < panel.steps; begin += panel.segment_steps) {
    const int64_t left = panel.steps - begin;
    s.steps = left < panel.segment_steps ? left : panel.segment_steps;
    if constexpr (bits != 0) {
      using C = TileCodes<bits>;
      const uint8_t* next = tiles + s.steps * C::bytes;
      if (x.rows == 1)
        add_row<C>(tiles, s, y, {tiles + stream_ahead, 64});
      else
        add_rows<C>(tiles, s, x.rows, y, next, C::bytes);
      tiles = next;
    } else {
      using C = TileCodes<8>;
      tiles = source.tiles(s.steps, scratch);
      constexpr int64_t about = step_bytes / 2;  // of a step, as packed
      if (x.rows == 1)
        add_row<C>(tiles, s, y, {source.p, about / 4});
      else
        add_rows<C>(tiles, s, x.rows, y, source.p, about);
    }
    s.x += x.segment_bytes;
    s.starts += x.rows;
    s.x_scales += x.rows;
    s.scales += panel.scale_step;
  }
}

}  // namespace hone::kernels::HONE_ISA::integers
