// Products of bf16 panels. Where the set multiplies bf16, activations are rounded to bf16 and pairs of columns summed
// by one instruction; elsewhere weights become f32 (the upper half of a lane as it is, the lower half shifted up) and
// activations stay f32.
#pragma once

#include "kernels/isa/float_bits.h"
#include "kernels/isa/packed/f32.h"
#include "kernels/isa/packed/source.h"

#if defined(__AVX2__) && !defined(__AVX512VBMI2__)
#include "kernels/isa/packed/words_avx2.h"
#endif

namespace hone::kernels::HONE_ISA::words {

// 8 KB of tiles, which stay in the first cache while several blocks of rows use them.
constexpr int64_t chunk_steps = 32;

#if defined(HONE_BF16_DOTS)
constexpr int64_t x_step = 4;  // bytes of activations a step
#else
constexpr int64_t x_step = 8;
#endif

#if defined(__AVX512VBMI2__) || !defined(__AVX2__)

#if defined(__AVX512VBMI2__)
constexpr int block = 4;

template <int M, class Source, class Beside>
inline __attribute__((always_inline)) void add_steps(Source& source, int64_t steps, const uint8_t* x, int64_t row_bytes,
                                                     float* y, Beside beside) {
  __m512 sum[M][4];
  Source stream = source;  // a copy of our own stays in registers
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sum[m][i] = _mm512_loadu_ps(y + m * 64 + i * 16);
  for (int64_t n = 0; n < steps; ++n, x += x_step) {
    __m512i w[4];
    stream.step(w);
    beside();
#if defined(__AVX512BF16__)
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      const __m512i a = broadcast(x + m * row_bytes);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) dot(sum[m][i], w[i], a);
    }
#else
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(w[i], 16));
      const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(w[i], _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        float a[2];
        __builtin_memcpy(a, x + m * row_bytes, 8);
        sum[m][i] = _mm512_fmadd_ps(even, _mm512_set1_ps(a[0]), sum[m][i]);
        sum[m][i] = _mm512_fmadd_ps(odd, _mm512_set1_ps(a[1]), sum[m][i]);
      }
    }
#endif
  }
  source = stream;
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm512_storeu_ps(y + m * 64 + i * 16, sum[m][i]);
}

#if !defined(HONE_BF16_DOTS)
static_assert(chunk_steps * 2 * 64 * 4 <= packed_widened_bytes);

// Weights of a chunk as f32 in the first cache, where tiles of more rows than add_steps() has meet them: the same
// sums, in the same order.
template <class Source>
inline __attribute__((always_inline)) void add_widened(Source& source, int64_t steps, int64_t rows, const uint8_t* x,
                                                       int64_t row_bytes, float* y, uint8_t* scratch) {
  auto* widened = reinterpret_cast<float*>(scratch + packed_unpack_bytes);
  Source stream = source;
  float* to = widened;
  for (int64_t n = 0; n < steps; ++n, to += 128) {
    __m512i w[4];
    stream.step(w);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m512i upper = _mm512_and_si512(w[i], _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
      _mm512_storeu_si512(to + i * 16, _mm512_slli_epi32(w[i], 16));
      _mm512_storeu_si512(to + 64 + i * 16, upper);
    }
  }
  source = stream;
  const int64_t each_row = (step_bytes + rows - 1) / rows;
  exact::add_all_rows<2>(widened, 2 * steps, rows, x, row_bytes, y, [&](int64_t m, int64_t count) {
    return SegmentAhead<Source>{stream, m * each_row * steps, count * each_row};
  });
}
#endif

#elif defined(HONE_NEON)
constexpr int block = 4;  // 16 sums, and as many vectors of weights as those of 16 rows

template <int M, class Source, class Beside>
inline void add_steps(Source& source, int64_t steps, const uint8_t* x, int64_t row_bytes, float* y, Beside) {
  const uint8_t* tiles = source.p;
  source.p += steps * step_bytes;
  for (int first = 0; first < 64; first += 16) {
    float32x4_t sum[M][4];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[m][i] = vld1q_f32(y + m * 64 + first + 4 * i);
    const uint8_t* at = tiles + 4 * first;
    const uint8_t* row = x;
    for (int64_t n = 0; n < steps; ++n, at += step_bytes, row += x_step)
#if defined(HONE_BF16_DOTS)
    {
      bfloat16x8_t w[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) w[i] = vreinterpretq_bf16_u8(vld1q_u8(at + 16 * i));
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        uint32_t pair;
        __builtin_memcpy(&pair, row + m * row_bytes, sizeof pair);
        const bfloat16x8_t a = vreinterpretq_bf16_u32(vdupq_n_u32(pair));
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) sum[m][i] = vbfdotq_f32(sum[m][i], w[i], a);
      }
    }
#else
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const uint32x4_t w = vreinterpretq_u32_u8(vld1q_u8(at + 16 * i));
        const float32x4_t even = vreinterpretq_f32_u32(vshlq_n_u32(w, 16));
        const float32x4_t odd = vreinterpretq_f32_u32(vandq_u32(w, vdupq_n_u32(0xffff0000u)));
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
          float a[2];
          __builtin_memcpy(a, row + m * row_bytes, sizeof a);
          sum[m][i] = vfmaq_n_f32(sum[m][i], even, a[0]);
          sum[m][i] = vfmaq_n_f32(sum[m][i], odd, a[1]);
        }
      }
#endif
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) vst1q_f32(y + m * 64 + first + 4 * i, sum[m][i]);
  }
}

#else
constexpr int block = 2;

// 16 rows of a panel. Not inlined: the compiler may order the sums of a loop as it likes, but must do so the same way
// for every number of rows of x.
inline __attribute__((noinline)) void add_row(const uint8_t* tiles, int64_t steps, const uint8_t* x, float* y) {
  for (int64_t n = 0; n < steps; ++n) {
    float a[2];
    __builtin_memcpy(a, x + n * x_step, 8);
    for (int r = 0; r < 16; ++r) {
      uint32_t w;
      __builtin_memcpy(&w, tiles + n * step_bytes + r * 4, 4);
      y[r] += as_float(w << 16) * a[0] + as_float(w & 0xffff0000u) * a[1];
    }
  }
}

template <int M, class Source, class Beside>
inline void add_steps(Source& source, int64_t steps, const uint8_t* x, int64_t row_bytes, float* y, Beside) {
  const uint8_t* tiles = source.p;
  source.p += steps * step_bytes;
  for (int i = 0; i < 64; i += 16) {
    for (int m = 0; m < M; ++m) add_row(tiles + i * 4, steps, x + m * row_bytes, y + m * 64 + i);
  }
}
#endif

template <class Source, class Beside>
void add_block(int64_t rows, Source& source, int64_t steps, const uint8_t* x, int64_t row_bytes, float* y,
               Beside beside) {
  if (rows == 1) add_steps<1>(source, steps, x, row_bytes, y, beside);
  if (rows == 2) add_steps<2>(source, steps, x, row_bytes, y, beside);
  if constexpr (block > 2) {
    if (rows == 3) add_steps<3>(source, steps, x, row_bytes, y, beside);
    if (rows == 4) add_steps<4>(source, steps, x, row_bytes, y, beside);
  }
}

inline int64_t block_of(int64_t rows) {
  return rows < block ? rows : block;
}

// One chunk of steps: y[rows][64] += products.
template <class Source>
inline __attribute__((always_inline)) void add_chunk(Source& source, int64_t steps, int64_t rows, const uint8_t* x,
                                                     int64_t row_bytes, float* y, uint8_t* scratch) {
#if defined(__AVX512VBMI2__) && !defined(HONE_BF16_DOTS)
  // Shifting and masking takes the units that multiply: for more rows than two blocks it is done once, to memory.
  if (rows > 2 * block) return add_widened(source, steps, rows, x, row_bytes, y, scratch);
#endif
  in_blocks(source, steps, rows, scratch, block_of, [&](int64_t m, int64_t count, auto& from, auto beside) {
    add_block(count, from, steps, x + m * row_bytes, row_bytes, y + m * 64, beside);
  });
}

#endif

// Sums of the steps that share their scales are taken apart, and added to the others times these.
template <class Source>
void scaled_product(const PackedPanel& panel, const PackedInput& x, float* y, uint8_t* scratch) {
  alignas(64) float sums[packed_pass_rows * 64];
  Source source(panel);
  const int64_t chunk = scaled_chunk(panel);
  for (int64_t begin = 0; begin < panel.steps; begin += chunk) {
    const int64_t left = panel.steps - begin, steps = left < chunk ? left : chunk;
    const uint8_t* data = x.data + begin * x_step;
    for (int64_t i = 0; i < x.rows * 64; ++i) sums[i] = 0;
#if defined(__AVX512VBMI2__)
    if (x.rows <= block)
      add_block(x.rows, source, steps, data, x.row_bytes, sums, Nothing{});
    else
#endif
      add_chunk(source, steps, x.rows, data, x.row_bytes, sums, scratch);
    const bf16* scales = panel.scales + begin / panel.segment_steps * panel.scale_step;
    for (int64_t m = 0; m < x.rows; ++m)
#pragma omp simd
      for (int r = 0; r < 64; ++r) y[m * 64 + r] += sums[m * 64 + r] * as_float(scales[r]);
  }
}

template <class Source, bool scaled>
void product(const PackedPanel& panel, const PackedInput& x, float* y, uint8_t* scratch) {
  for (int64_t i = 0; i < x.rows * 64; ++i) y[i] = 0;
  if constexpr (scaled) return scaled_product<Source>(panel, x, y, scratch);
  Source source(panel);
#if defined(__AVX512VBMI2__)
  if (x.rows <= block) return add_block(x.rows, source, panel.steps, x.data, x.row_bytes, y, Nothing{});
#elif defined(__AVX2__)
  if constexpr (Source::in_place)
    if (x.rows == 1)  // in one stream
      return add_row(source.p, panel.steps, x.data, y, {source.p + stream_ahead, 64});
#endif
  for (int64_t begin = 0; begin < panel.steps; begin += chunk_steps) {
    const int64_t left = panel.steps - begin, steps = left < chunk_steps ? left : chunk_steps;
    add_chunk(source, steps, x.rows, x.data + begin * x_step, x.row_bytes, y, scratch);
  }
}

}  // namespace hone::kernels::HONE_ISA::words
