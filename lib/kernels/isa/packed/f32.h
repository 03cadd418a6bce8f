// Products and expansions in f32: weights as they are stored, exactly (8 bits times a bf16 scale fit 24), activations
// as they are, sums in f32.
#pragma once

#include "kernels/isa/float_bits.h"
#include "kernels/isa/packed/source.h"

namespace hone::kernels::HONE_ISA::exact {

constexpr int64_t chunk_tiles = 32 * step_bytes;  // what packed_unpack_bytes holds
static_assert(chunk_tiles == packed_unpack_bytes && packed_widened_bytes == chunk_tiles * 4);

// Rows of a vector. The compiler cuts those of 16 where registers are shorter, but for Arm would leave them in memory.
#if defined(HONE_NEON)
constexpr int vector_rows = 4;
#else
constexpr int vector_rows = 16;
#endif
typedef float Vector __attribute__((vector_size(4 * vector_rows)));

inline __attribute__((always_inline)) void load(Vector& v, const float* from) {
  __builtin_memcpy(&v, from, sizeof v);
}
inline __attribute__((always_inline)) void store(const Vector& v, float* to) {
  __builtin_memcpy(to, &v, sizeof v);
}

// Tiles of words to out [2 * steps][64].
inline void widen_words(const uint8_t* tiles, int64_t steps, const bf16*, float* out) {
  for (int64_t n = 0; n < steps; ++n, tiles += step_bytes, out += 128)
#pragma omp simd
    for (int r = 0; r < 64; ++r) {
      uint32_t w;
      __builtin_memcpy(&w, tiles + 4 * r, 4);
      out[r] = as_float(w << 16);
      out[r + 64] = as_float(w & 0xffff0000u);
    }
}

// The same times the scales of the rows.
inline void widen_scaled_words(const uint8_t* tiles, int64_t steps, const bf16* scales, float* out) {
  float scale[64];
  for (int r = 0; r < 64; ++r) scale[r] = as_float(scales[r]);
  for (int64_t n = 0; n < steps; ++n, tiles += step_bytes, out += 128)
#pragma omp simd
    for (int r = 0; r < 64; ++r) {
      uint32_t w;
      __builtin_memcpy(&w, tiles + 4 * r, 4);
      out[r] = as_float(w << 16) * scale[r];
      out[r + 64] = as_float(w & 0xffff0000u) * scale[r];
    }
}

// Tiles of integers to out [4 * steps][64].
template <int Zero>
void widen_integers(const uint8_t* tiles, int64_t steps, const bf16* scales, float* out) {
  float scale[64];
  for (int r = 0; r < 64; ++r) scale[r] = as_float(scales[r]);
  for (int64_t n = 0; n < steps; ++n, tiles += step_bytes, out += 256)
#pragma omp simd
    for (int r = 0; r < 64; ++r) {
      uint32_t w;
      __builtin_memcpy(&w, tiles + 4 * r, 4);
      out[r] = static_cast<float>(static_cast<int>(w & 255u) - Zero) * scale[r];
      out[r + 64] = static_cast<float>(static_cast<int>((w >> 8) & 255u) - Zero) * scale[r];
      out[r + 128] = static_cast<float>(static_cast<int>((w >> 16) & 255u) - Zero) * scale[r];
      out[r + 192] = static_cast<float>(static_cast<int>(w >> 24) - Zero) * scale[r];
    }
}

using Widen = void (*)(const uint8_t* tiles, int64_t steps, const bf16* scales, float* out);

// Calls use(first column, columns, weights [columns][64]) for the panel's columns in order.
template <class Source, Widen widen, int Lane, class F>
inline void for_columns(const PackedPanel& panel, uint8_t* scratch, F use) {
  Source source(panel);
  auto* widened = reinterpret_cast<float*>(scratch + packed_unpack_bytes);
#if defined(__AVX2__) && !defined(__AVX512VBMI2__)
  const int64_t chunk = scaled_chunk(panel) < 16 ? scaled_chunk(panel) : 16;  // 16 KB widened, beside as much of x
#else
  const int64_t chunk = scaled_chunk(panel);
#endif
  for (int64_t begin = 0; begin < panel.steps; begin += chunk) {
    const bf16* scales = panel.scales + begin / panel.segment_steps * panel.scale_step;
    const int64_t left = panel.steps - begin, steps = left < chunk ? left : chunk;
    widen(source.tiles(steps, scratch), steps, scales, widened);
    use(begin * Lane, steps * Lane, widened);
  }
}

#if defined(__AVX512VBMI2__)

constexpr int tallest = 6;  // 24 sums of 16 lanes, 24 products for the 10 loads of a column

// y[M][64] += x[M][columns] w[columns][64]. A sum is taken in the order of the columns whatever M is. `beside` runs
// once in each `every` columns.
template <int M, int every, class Beside>
inline __attribute__((always_inline)) void add_rows(const float* w, int64_t columns, const uint8_t* x,
                                                    int64_t row_bytes, float* y, Beside beside) {
  __m512 sum[M][4];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sum[m][i] = _mm512_loadu_ps(y + m * 64 + i * 16);
  for (int64_t c = 0; c < columns; c += every) {
    beside();
#pragma GCC unroll 4
    for (int k = 0; k < every; ++k, w += 64, x += 4) {
      __m512 weights[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) weights[i] = _mm512_loadu_ps(w + i * 16);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const __m512 a = _mm512_castsi512_ps(broadcast(x + m * row_bytes));
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) sum[m][i] = _mm512_fmadd_ps(weights[i], a, sum[m][i]);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm512_storeu_ps(y + m * 64 + i * 16, sum[m][i]);
}

// The same of all rows of a pass, in tiles as even as they come: small ones wait for their own sums. beside_of(m,
// count) is what runs beside the `count` rows from m on.
template <int every, class BesideOf>
inline void add_all_rows(const float* w, int64_t columns, int64_t rows, const uint8_t* x, int64_t row_bytes, float* y,
                         BesideOf beside_of) {
  int64_t tiles = (rows + tallest - 1) / tallest;
  for (int64_t m = 0, count; m < rows; m += count, --tiles) {
    count = (rows - m + tiles - 1) / tiles;
    const uint8_t* at = x + m * row_bytes;
    float* to = y + m * 64;
    const auto beside = beside_of(m, count);
    if (count == 6) add_rows<6, every>(w, columns, at, row_bytes, to, beside);
    if (count == 5) add_rows<5, every>(w, columns, at, row_bytes, to, beside);
    if (count == 4) add_rows<4, every>(w, columns, at, row_bytes, to, beside);
    if (count == 3) add_rows<3, every>(w, columns, at, row_bytes, to, beside);
    if (count == 2) add_rows<2, every>(w, columns, at, row_bytes, to, beside);
    if (count == 1) add_rows<1, every>(w, columns, at, row_bytes, to, beside);
  }
}

#elif defined(__AVX2__)

constexpr int tallest = 5;  // 10 sums beside two vectors of weights

// y[M][8 * V] += x[M][columns] w[columns][8 * V], of 64 weights a column. A sum is taken in the order of the columns
// whatever M is.
template <int M, int V>
inline void add_tile(const float* w, int64_t columns, const uint8_t* x, int64_t row_bytes, float* y) {
  __m256 sum[M][V];
#pragma GCC unroll 5
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[m][v] = _mm256_loadu_ps(y + m * 64 + 8 * v);
  for (int64_t c = 0; c < columns; ++c, w += 64, x += 4)
#pragma GCC unroll 5
    for (int m = 0; m < M; ++m) {
      float number;
      __builtin_memcpy(&number, x + m * row_bytes, sizeof number);
      const __m256 a = _mm256_set1_ps(number);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[m][v] = _mm256_fmadd_ps(_mm256_loadu_ps(w + 8 * v), a, sum[m][v]);
    }
#pragma GCC unroll 5
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) _mm256_storeu_ps(y + m * 64 + 8 * v, sum[m][v]);
}

// The same of all rows of a pass and all weights of a column.
inline void add_all_rows(const float* w, int64_t columns, int64_t rows, const uint8_t* x, int64_t row_bytes, float* y) {
  if (rows == 1) return add_tile<1, 8>(w, columns, x, row_bytes, y);
  for (int first = 0; first < 64; first += 16) {
    int64_t blocks = (rows + tallest - 1) / tallest;
    for (int64_t m = 0, count; m < rows; m += count, --blocks) {
      count = (rows - m + blocks - 1) / blocks;
      const uint8_t* at = x + m * row_bytes;
      float* to = y + m * 64 + first;
      if (count == 5) add_tile<5, 2>(w + first, columns, at, row_bytes, to);
      if (count == 4) add_tile<4, 2>(w + first, columns, at, row_bytes, to);
      if (count == 3) add_tile<3, 2>(w + first, columns, at, row_bytes, to);
      if (count == 2) add_tile<2, 2>(w + first, columns, at, row_bytes, to);
      if (count == 1) add_tile<1, 2>(w + first, columns, at, row_bytes, to);
    }
  }
}

#else

// y[M][64] += x[M][columns] w[columns][64]. A sum is taken in the order of the columns whatever M is.
template <int M>
inline void add_rows(const float* w, int64_t columns, const uint8_t* x, int64_t row_bytes, float* y) {
#if defined(HONE_NEON)
  constexpr int wide = M > 2 ? 4 : 8;  // 16 sums at most
#else
  constexpr int wide = M > 2 ? 2 : 4;  // vectors of rows at once: at most 8 sums in registers of this size
#endif
  for (int first = 0; first < 64; first += vector_rows * wide) {
    Vector sum[M][wide];
    for (int m = 0; m < M; ++m)
      for (int i = 0; i < wide; ++i) load(sum[m][i], y + m * 64 + first + vector_rows * i);
    const float* at = w + first;
    for (int64_t c = 0; c < columns; ++c, at += 64) {
      Vector weights[wide];
      for (int i = 0; i < wide; ++i) load(weights[i], at + vector_rows * i);
      for (int m = 0; m < M; ++m) {
        float a;
        __builtin_memcpy(&a, x + m * row_bytes + 4 * c, 4);
        for (int i = 0; i < wide; ++i) sum[m][i] += weights[i] * a;
      }
    }
    for (int m = 0; m < M; ++m)
      for (int i = 0; i < wide; ++i) store(sum[m][i], y + m * 64 + first + vector_rows * i);
  }
}

// The same of all rows of a pass.
inline void add_all_rows(const float* w, int64_t columns, int64_t rows, const uint8_t* x, int64_t row_bytes, float* y) {
  int64_t m = 0;
  for (; m + 4 <= rows; m += 4) add_rows<4>(w, columns, x + m * row_bytes, row_bytes, y + m * 64);
  for (; m < rows; ++m) add_rows<1>(w, columns, x + m * row_bytes, row_bytes, y + m * 64);
}

#endif

template <class Source, Widen widen, int Lane>
void product(const PackedPanel& panel, const PackedInput& x, float* y, uint8_t* scratch) {
  for (int64_t i = 0; i < x.rows * 64; ++i) y[i] = 0;
  for_columns<Source, widen, Lane>(panel, scratch, [&](int64_t first, int64_t columns, const float* w) {
    const uint8_t* data = x.data + 4 * first;
#if defined(__AVX512VBMI2__)
    add_all_rows<Lane>(w, columns, x.rows, data, x.row_bytes, y, [](int64_t, int64_t) { return Nothing{}; });
#else
    add_all_rows(w, columns, x.rows, data, x.row_bytes, y);
#endif
  });
}

template <class Source, Widen widen, int Lane>
void expand(const PackedPanel& panel, int64_t rows, int64_t cols, float* out, int64_t part, int64_t stride,
            uint8_t* scratch) {
  for_columns<Source, widen, Lane>(panel, scratch, [&](int64_t first, int64_t columns, const float* w) {
    const int64_t end = cols - first < columns ? cols - first : columns;
    for (int64_t r = 0; r < rows; r += 16, w += 16) {
      float* to = out + r / 16 * part + first * stride;
      if (rows - r >= 16)
        for (int64_t c = 0; c < end; ++c) __builtin_memcpy(to + c * stride, w + c * 64, 16 * sizeof(float));
      else
        for (int64_t c = 0; c < end; ++c)
          __builtin_memcpy(to + c * stride, w + c * 64, static_cast<size_t>(rows - r) * sizeof(float));
    }
  });
}

}  // namespace hone::kernels::HONE_ISA::exact
