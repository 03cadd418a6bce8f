// Numbers to integers, the same bits at every instruction set.
#pragma once

#include "kernels/isa/vector_math.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hone::kernels::HONE_ISA {

// Bits of |x|: as integers they are in the order of the numbers, those of a NaN behind infinity's.
inline uint32_t size_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits & 0x7fffffffu;
}

// Those of the largest |x|.
inline uint32_t largest_bits(const float* x, int64_t n) {
  uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = size_bits(x[i]);
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

// round(x[0..16) * inverse), to nearest even. By the conversion instruction: adding a large constant instead would
// round differently where the compiler fuses the multiplication and the addition.
inline void round16(const float* x, float inverse, int32_t* out) {
#if defined(__AVX512F__)
  _mm512_storeu_si512(out, _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(inverse))));
#elif defined(__AVX2__)
  for (int i = 0; i < 16; i += 8) {
    const __m256i v = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(inverse)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), v);
  }
#elif defined(__SSE2__)
  for (int i = 0; i < 16; i += 4) {
    const __m128i v = _mm_cvtps_epi32(_mm_mul_ps(_mm_loadu_ps(x + i), _mm_set1_ps(inverse)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), v);
  }
#elif defined(HONE_NEON)
  for (int i = 0; i < 16; i += 4) vst1q_s32(out + i, vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), inverse)));
#else
  for (int i = 0; i < 16; ++i) out[i] = static_cast<int32_t>(__builtin_lrintf(x[i] * inverse));
#endif
}

// x[0..16) * inverse / 65536 rounded down or up with the chances that make the mean exact: the upper halves of integers
// to whose lower halves 16 bits of each hash are added, from bit `shift` on. At most 127 of either sign.
inline void round16_by_chance(const float* x, float inverse, const uint32_t* hashes, int shift, int32_t* out) {
  constexpr int32_t most = 127 << 16;
  int32_t fixed[16];
  round16(x, inverse, fixed);
#pragma omp simd
  for (int i = 0; i < 16; ++i) {
    const int32_t low = fixed[i] < -most ? -most : fixed[i], bounded = low > most ? most : low;
    out[i] = (bounded + static_cast<int32_t>(hashes[i] >> shift & 0xffffu)) >> 16;
  }
}

}  // namespace hone::kernels::HONE_ISA
