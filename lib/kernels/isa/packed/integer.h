// Sums of one segment: 64 rows of offset integers times M rows of 16-bit activations, exact in 32 bits, added to f32
// results.
#pragma once

#include "kernels/isa/packed/source.h"

namespace hone::kernels::HONE_ISA {

// What a segment's sums need beside the tiles.
struct Segment {
  const uint8_t* x;       // activations of the segment's first step, row 0: 8 bytes a step
  int64_t row_bytes;      // to the next row of x
  const int32_t* starts;  // of the sums, row 0: minus what the offset of the weights adds
  const float* x_scales;  // of activations, row 0
  int64_t segments;       // to the next row of starts and x_scales
  const bf16* scales;     // [64]
  int64_t steps;
};

#if defined(__AVX512VNNI__)

// Activations of a step: hi[4] lo[4]; weights are the unsigned operand.
template <int M, class Source, class Beside>
inline __attribute__((always_inline)) void add_segment(Source& source, const Segment& s, float* y, Beside beside) {
  __m512i hi[M][4], lo[M][4];
  Source stream = source;  // a copy of our own stays in registers
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      hi[m][i] = _mm512_setzero_si512();
      lo[m][i] = _mm512_set1_epi32(s.starts[m * s.segments]);
    }
  const uint8_t* x = s.x;
  for (int64_t n = 0; n < s.steps; ++n, x += 8) {
    __m512i w[4];
    stream.step(w);
    beside();
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      const __m512i high = broadcast(x + m * s.row_bytes), low = broadcast(x + m * s.row_bytes + 4);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        dot(hi[m][i], w[i], high);
        dot(lo[m][i], w[i], low);
      }
    }
  }
  source = stream;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(s.scales + 16 * i));
    const __m512 scale = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      const __m512i total = _mm512_add_epi32(_mm512_slli_epi32(hi[m][i], 8), lo[m][i]);
      const __m512 worth = _mm512_mul_ps(scale, _mm512_set1_ps(s.x_scales[m * s.segments]));
      float* to = y + m * 64 + i * 16;
      _mm512_storeu_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), worth, _mm512_loadu_ps(to)));
    }
  }
}

#elif defined(__AVX2__)

// Activations of a step: a[0] a[2] a[1] a[3], 16 bits each. Even and odd bytes of a weight lane meet the two pairs.
template <int M, class Source, class Beside>
inline void add_segment(Source& source, const Segment& s, float* y, Beside) {
  const uint8_t* tiles = source.p;
  source.p += s.steps * step_bytes;
  const __m256i even = _mm256_set1_epi32(0x00ff00ff);
  for (int i = 0; i < 8; i += 2) {  // 16 rows at a time
    __m256i sum[M][2];
    for (int m = 0; m < M; ++m) sum[m][0] = sum[m][1] = _mm256_set1_epi32(s.starts[m * s.segments]);
    const uint8_t* x = s.x;
    for (int64_t n = 0; n < s.steps; ++n, x += 8)
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const auto* at = reinterpret_cast<const __m256i*>(tiles + n * step_bytes + (i + h) * 32);
        const __m256i w = _mm256_loadu_si256(at);
        const __m256i w02 = _mm256_and_si256(w, even), w13 = _mm256_and_si256(_mm256_srli_epi16(w, 8), even);
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
          int32_t a[2];
          __builtin_memcpy(a, x + m * s.row_bytes, 8);
          const __m256i p = _mm256_madd_epi16(w02, _mm256_set1_epi32(a[0]));
          const __m256i q = _mm256_madd_epi16(w13, _mm256_set1_epi32(a[1]));
          sum[m][h] = _mm256_add_epi32(sum[m][h], _mm256_add_epi32(p, q));
        }
      }
    for (int h = 0; h < 2; ++h) {
      const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(s.scales + 8 * (i + h)));
      const __m256 scale = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
      for (int m = 0; m < M; ++m) {
        const __m256 worth = _mm256_mul_ps(scale, _mm256_set1_ps(s.x_scales[m * s.segments]));
        float* to = y + m * 64 + (i + h) * 8;
        _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[m][h]), worth, _mm256_loadu_ps(to)));
      }
    }
  }
}

#else

// The plain form, which is the reference of the others: the same order of activations as with AVX2.
template <int M, class Source, class Beside>
inline void add_segment(Source& source, const Segment& s, float* y, Beside) {
  const uint8_t* tiles = source.p;
  source.p += s.steps * step_bytes;
  for (int m = 0; m < M; ++m) {
    int32_t sum[64];
    for (int r = 0; r < 64; ++r) sum[r] = s.starts[m * s.segments];
    for (int64_t n = 0; n < s.steps; ++n) {
      int16_t a[4];
      __builtin_memcpy(a, s.x + m * s.row_bytes + n * 8, 8);
      const uint8_t* w = tiles + n * step_bytes;
      for (int r = 0; r < 64; ++r)
        sum[r] += w[4 * r] * a[0] + w[4 * r + 1] * a[2] + w[4 * r + 2] * a[1] + w[4 * r + 3] * a[3];
    }
    for (int r = 0; r < 64; ++r) {
      const uint32_t bits = static_cast<uint32_t>(s.scales[r].bits) << 16;
      float scale;
      __builtin_memcpy(&scale, &bits, 4);
      y[m * 64 + r] += static_cast<float>(sum[r]) * (scale * s.x_scales[m * s.segments]);
    }
  }
}

#endif

}  // namespace hone::kernels::HONE_ISA
