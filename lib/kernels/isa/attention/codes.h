// Rows of a cache that are codes (kernels/attention/cache_code.h): their rotation, and vectors of them in f32.
#pragma once

#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {

// Elements of arrays of codes, counted in bytes.
struct Code8 {
  int8_t q;
};
struct Code4 {
  uint8_t pair;
};

template <class T>
inline constexpr bool is_code = false;
template <>
inline constexpr bool is_code<Code8> = true;
template <>
inline constexpr bool is_code<Code4> = true;

// Numbers d … d + lanes - 1 of a row, d a multiple of the lanes, without the scale.
inline Vec load_code(const Code8* row, int64_t d) {
#if defined(HONE_VECTOR_AVX512)
  const __m128i q = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + d));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q));
#elif defined(HONE_VECTOR_AVX2)
  const __m128i q = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + d));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q));
#else
  Vec v;
  for (int i = 0; i < lanes; ++i) v[i] = row[d + i].q;
  return v;
#endif
}

inline Vec load_code(const Code4* row, int64_t d) {
  const Code4* at = row + d / 32 * 16 + d % 16;
  const int shift = static_cast<int>(d & 16) / 4;
#if defined(HONE_VECTOR_AVX512)
  alignas(64) static constexpr float values[16] = {-7.5f, -6.5f, -5.5f, -4.5f, -3.5f, -2.5f, -1.5f, -0.5f,
                                                   0.5f,  1.5f,  2.5f,  3.5f,  4.5f,  5.5f,  6.5f,  7.5f};
  const __m512i pairs = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  const __m512i codes = _mm512_srlv_epi32(pairs, _mm512_set1_epi32(shift));
  return _mm512_maskz_permutexvar_ps(0xffff, codes, _mm512_load_ps(values));  // by the lowest 4 bits
#elif defined(HONE_VECTOR_AVX2)
  const __m256i pairs = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
  const __m256i codes = _mm256_and_si256(_mm256_srlv_epi32(pairs, _mm256_set1_epi32(shift)), _mm256_set1_epi32(15));
  return _mm256_cvtepi32_ps(codes) - 7.5f;
#else
  Vec v;
  for (int i = 0; i < lanes; ++i) v[i] = static_cast<float>(at[i].pair >> shift & 15) - 7.5f;
  return v;
#endif
}

// Times a normalized Hadamard matrix, in blocks of the largest power of two that divides n.
inline void rotate_row(float* row, int64_t n) {
  const int64_t block = n & -n;
  for (int64_t half = 1; half < block; half *= 2)
    for (int64_t begin = 0; begin < n; begin += 2 * half)
#pragma omp simd
      for (int64_t i = begin; i < begin + half; ++i) {
        const float a = row[i], b = row[i + half];
        row[i] = a + b;
        row[i + half] = a - b;
      }
  const float factor = 1 / __builtin_sqrtf(static_cast<float>(block));
  for (int64_t i = 0; i < n; ++i) row[i] *= factor;
}

}  // namespace hone::kernels::HONE_ISA
