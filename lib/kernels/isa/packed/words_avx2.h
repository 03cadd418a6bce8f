// Products of bf16 panels with rows in f32 by vectors of 8: the even columns of a step are its lanes shifted up, the
// odd ones its lanes without the lower half. Sums are taken in the order of the columns, whatever the number of rows.
#pragma once

#include "kernels/isa/packed/source.h"

namespace hone::kernels::HONE_ISA::words {

inline __attribute__((always_inline)) __m256 columns_at(const uint8_t* from, bool odd) {
  const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  return _mm256_castsi256_ps(odd ? _mm256_and_si256(v, upper) : _mm256_slli_epi32(v, 16));
}

inline __attribute__((always_inline)) __m256 number_at(const uint8_t* x) {
  float a;
  __builtin_memcpy(&a, x, sizeof a);
  return _mm256_set1_ps(a);
}

// One row of x and all rows of the panel, in the order of the bytes.
inline void add_row(const uint8_t* tiles, int64_t steps, const uint8_t* x, float* y, LoadAhead ahead) {
  __m256 sum[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) sum[i] = _mm256_loadu_ps(y + 8 * i);
  for (int64_t n = 0; n < steps; ++n, tiles += step_bytes, x += 8) {
    const __m256 even = number_at(x), odd = number_at(x + 4);
#pragma GCC unroll 4
    for (int line = 0; line < 4; ++line) ahead();
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      sum[i] = _mm256_fmadd_ps(columns_at(tiles + 32 * i, false), even, sum[i]);
      sum[i] = _mm256_fmadd_ps(columns_at(tiles + 32 * i, true), odd, sum[i]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) _mm256_storeu_ps(y + 8 * i, sum[i]);
}

constexpr int tallest = 5;  // 10 sums beside two vectors of weights: with 12 GCC 12 leaves some in memory

// M rows of x and 16 rows of the panel.
template <int M>
inline void add_tile(const uint8_t* tiles, int64_t steps, const uint8_t* x, int64_t row_bytes, float* y,
                     LoadAhead& ahead) {
  __m256 sum[M][2];
#pragma GCC unroll 5
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < 2; ++v) sum[m][v] = _mm256_loadu_ps(y + m * 64 + 8 * v);
  LoadAhead next = ahead;
  for (int64_t n = 0; n < steps; ++n, tiles += step_bytes, x += 8) {
    next();
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
      const __m256 w0 = columns_at(tiles, odd), w1 = columns_at(tiles + 32, odd);
#pragma GCC unroll 5
      for (int m = 0; m < M; ++m) {
        const __m256 a = number_at(x + m * row_bytes + 4 * odd);
        sum[m][0] = _mm256_fmadd_ps(w0, a, sum[m][0]);
        sum[m][1] = _mm256_fmadd_ps(w1, a, sum[m][1]);
      }
      asm("" : "+r"(tiles));  // lanes are loaded again, not kept
    }
  }
  ahead = next;
#pragma GCC unroll 5
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < 2; ++v) _mm256_storeu_ps(y + m * 64 + 8 * v, sum[m][v]);
}

// One chunk of steps: y[rows][64] += products. The loading of the chunk after it, which starts at `next` and has
// step_size bytes a step, is spread over them.
inline void add_chunk(const uint8_t* tiles, int64_t steps, int64_t rows, const uint8_t* x, int64_t row_bytes, float* y,
                      const uint8_t* next, int64_t step_size) {
  const int64_t most = (rows + tallest - 1) / tallest;
  LoadAhead ahead{next, step_size / (4 * most)};
  for (int first = 0; first < 64; first += 16) {
    int64_t blocks = most;
    for (int64_t m = 0, count; m < rows; m += count, --blocks) {
      count = (rows - m + blocks - 1) / blocks;
      const uint8_t *from = tiles + 4 * first, *at = x + m * row_bytes;
      float* to = y + m * 64 + first;
      if (count == 5) add_tile<5>(from, steps, at, row_bytes, to, ahead);
      if (count == 4) add_tile<4>(from, steps, at, row_bytes, to, ahead);
      if (count == 3) add_tile<3>(from, steps, at, row_bytes, to, ahead);
      if (count == 2) add_tile<2>(from, steps, at, row_bytes, to, ahead);
      if (count == 1) add_tile<1>(from, steps, at, row_bytes, to, ahead);
    }
  }
}

// The same of what a source unpacks.
template <class Source>
inline void add_chunk(Source& source, int64_t steps, int64_t rows, const uint8_t* x, int64_t row_bytes, float* y,
                      uint8_t* scratch) {
  const uint8_t* tiles = source.tiles(steps, scratch);
  if (rows == 1)
    return add_row(tiles, steps, x, y,
                   Source::in_place ? LoadAhead{tiles + stream_ahead, 64} : LoadAhead{source.p, step_bytes / 2 / 4});
  add_chunk(tiles, steps, rows, x, row_bytes, y, source.p, Source::in_place ? step_bytes : step_bytes / 2);
}

}  // namespace hone::kernels::HONE_ISA::words
