// Vectors of f32 of the instruction set that a file is compiled for, and the few operations the attention kernels need.
// Included only by files of kernels/isa/: everything here lives in the set's own namespace.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/dtype.h"
#include "kernels/isa/features.h"

#if defined(HONE_ISA_avx512_bf16) || defined(HONE_ISA_avx512)
#define HONE_VECTOR_AVX512 1
#elif defined(HONE_ISA_avx2)
#define HONE_VECTOR_AVX2 1
#endif

#if defined(HONE_VECTOR_AVX512) || defined(HONE_VECTOR_AVX2)
// GCC 12 warns of the deliberately undefined vectors in its own header (its bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace hone::kernels::HONE_ISA {

#if defined(HONE_VECTOR_AVX512)
constexpr int lanes = 16;
#elif defined(HONE_VECTOR_AVX2)
constexpr int lanes = 8;
#else
constexpr int lanes = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * lanes)));
typedef int32_t IntVec __attribute__((vector_size(4 * lanes)));

inline Vec load(const float* from) {
  Vec v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
inline void store(float* to, Vec v) {
  __builtin_memcpy(to, &v, sizeof v);
}
// x - 0 is x, and so one instruction; x + 0 is not where x is -0, and would be added up lane by lane.
inline Vec broadcast(float x) {
  return x - Vec{};
}
inline IntVec broadcast(int32_t x) {
  return x - IntVec{};
}
inline IntVec load(const int32_t* from) {
  IntVec v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
inline void store(int32_t* to, IntVec v) {
  __builtin_memcpy(to, &v, sizeof v);
}

// mask is -1 or 0 in each lane.
inline IntVec select(IntVec mask, IntVec yes, IntVec no) {
  return (mask & yes) | (~mask & no);
}
inline Vec select(IntVec mask, Vec yes, Vec no) {
  return (Vec)select(mask, (IntVec)yes, (IntVec)no);
}

// v where the lane's bit is set, -infinity elsewhere.
inline Vec keep(Vec v, uint32_t bits) {
  const Vec nothing = broadcast(-__builtin_inff());
#if defined(HONE_VECTOR_AVX512)
  return _mm512_mask_mov_ps(nothing, static_cast<__mmask16>(bits), v);
#else
  IntVec lane_bit;
  for (int i = 0; i < lanes; ++i) lane_bit[i] = 1 << i;
  return select((broadcast(static_cast<int32_t>(bits)) & lane_bit) != 0, v, nothing);
#endif
}

inline bool any_greater(Vec a, Vec b) {
#if defined(HONE_VECTOR_AVX512)
  return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0;
#elif defined(HONE_VECTOR_AVX2)
  return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0;
#elif defined(HONE_NEON)
  return vmaxvq_u32(vcgtq_f32(a, b)) != 0;
#else
  bool any = false;
  for (int i = 0; i < lanes; ++i) any |= a[i] > b[i];
  return any;
#endif
}

inline Vec max(Vec a, Vec b) {
#if defined(HONE_VECTOR_AVX512)
  return _mm512_max_ps(a, b);
#elif defined(HONE_VECTOR_AVX2)
  return _mm256_max_ps(a, b);
#else
  return select(a > b, a, b);
#endif
}

inline float sum(Vec v) {
#if defined(HONE_VECTOR_AVX512)
  return _mm512_reduce_add_ps(v);
#elif defined(HONE_NEON)
  return vaddvq_f32(v);
#else
  float total = 0;
  for (int i = 0; i < lanes; ++i) total += v[i];
  return total;
#endif
}

inline float max_of(Vec v) {
#if defined(HONE_NEON)
  return vmaxnmvq_f32(v);
#else
  float top = v[0];
  for (int i = 1; i < lanes; ++i) top = v[i] > top ? v[i] : top;
  return top;
#endif
}

// bf16 as a plain function of this namespace: an inline function shared with the rest of the program could be merged by
// the linker with a copy that the processor cannot run.
inline float widen(float x) {
  return x;
}
inline float widen(bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}
inline void narrow(float x, float& to) {
  to = x;
}
inline void narrow(float x, bf16& to) {
  uint32_t u;
  __builtin_memcpy(&u, &x, sizeof u);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, quiet = (u >> 16) | 0x40u;
  to.bits = static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

// to[i] = from[i] * factor
inline void narrow(const float* from, float factor, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i] * factor;
}
inline void narrow(const float* from, float factor, bf16* to, int64_t n) {
  int64_t i = 0;
#if defined(HONE_ISA_avx512_bf16)
  for (; i + 16 <= n; i += 16) {
    const __m256bh rounded = _mm512_cvtneps_pbh(load(from + i) * factor);
    __builtin_memcpy(static_cast<void*>(to + i), &rounded, sizeof rounded);
  }
#elif defined(HONE_NEON_BF16)
  for (; i + 4 <= n; i += 4) {
    const bfloat16x4_t rounded = vcvt_bf16_f32(load(from + i) * factor);
    __builtin_memcpy(static_cast<void*>(to + i), &rounded, sizeof rounded);
  }
#endif
  for (; i < n; ++i) narrow(from[i] * factor, to[i]);
}

inline Vec load_wide(const float* from) {
  return load(from);
}
inline Vec load_wide(const bf16* from) {
#if defined(HONE_NEON)
  return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(&from->bits), 16));
#else
  typedef uint16_t HalfVec __attribute__((vector_size(2 * lanes)));
  typedef uint32_t BitsVec __attribute__((vector_size(4 * lanes)));
  HalfVec h;
  __builtin_memcpy(&h, from, sizeof h);
  return (Vec)(__builtin_convertvector(h, BitsVec) << 16);
#endif
}

// 2^x for x <= 126 or so; -infinity gives exactly 0. The fraction in [0, 1) goes through the polynomial of least
// relative error: 2.7e-6 for degree 4, 1.5e-7 (rounding included) for degree 5.
template <int Degree>
inline Vec exp2(Vec x) {
#if defined(HONE_VECTOR_AVX512)
  const Vec f = _mm512_reduce_ps(x, 0x09);  // x - floor(x), and 0 for an infinity
#elif defined(HONE_VECTOR_AVX2)
  const Vec clamped = max(broadcast(-127.f), x);  // in this order NaN stays
  const Vec whole = _mm256_floor_ps(clamped), f = clamped - whole;
#elif defined(HONE_NEON)
  const Vec clamped = max(broadcast(-127.f), x);  // in this order NaN stays
  const Vec whole = vrndmq_f32(clamped), f = clamped - whole;
#else
  const Vec clamped = max(broadcast(-127.f), x);  // in this order NaN stays
  const IntVec truncated = __builtin_convertvector(clamped, IntVec);
  const IntVec whole =
      truncated + (__builtin_convertvector(truncated, Vec) > clamped);  // the comparison is -1 where true
  const Vec f = clamped - __builtin_convertvector(whole, Vec);
#endif
  Vec p;
  if constexpr (Degree == 4) {
    p = broadcast(1.353417873e-02f);
    p = p * f + 5.201149343e-02f;
    p = p * f + 2.414426937e-01f;
    p = p * f + 6.930038610e-01f;
    p = p * f + 1.000002591e+00f;
  } else {
    static_assert(Degree == 5);
    p = broadcast(1.877578132e-03f);
    p = p * f + 8.989342057e-03f;
    p = p * f + 5.582631056e-02f;
    p = p * f + 2.401536225e-01f;
    p = p * f + 6.931530719e-01f;
    p = p * f + 9.999999251e-01f;
  }
#if defined(HONE_VECTOR_AVX512)
  return _mm512_scalef_ps(p, x);  // p * 2^floor(x)
#else
#if defined(HONE_VECTOR_AVX2) || defined(HONE_NEON)
  const IntVec exponent = __builtin_convertvector(whole, IntVec) + 127;
#else
  const IntVec exponent = whole + 127;
#endif
  return select(x < broadcast(-126.f), Vec{}, p * (Vec)(exponent << 23));
#endif
}

#if defined(HONE_VECTOR_AVX2)
// to[c] is column c of an 8 x 8 block.
inline void transpose8(const float* from, int64_t from_stride, Vec* to) {
  __m256 a[8], b[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(from + i * from_stride);
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
  }
  // After this step a[4*g + j] holds, in its 128-bit lane l, column 4*l + j of rows 4*g … 4*g + 3.
#pragma GCC unroll 2
  for (int g = 0; g < 8; g += 4) {
    const __m256d low0 = _mm256_castps_pd(b[g]), low1 = _mm256_castps_pd(b[g + 2]);
    const __m256d high0 = _mm256_castps_pd(b[g + 1]), high1 = _mm256_castps_pd(b[g + 3]);
    a[g] = _mm256_castpd_ps(_mm256_unpacklo_pd(low0, low1));
    a[g + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low0, low1));
    a[g + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high0, high1));
    a[g + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high0, high1));
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    to[j] = _mm256_permute2f128_ps(a[j], a[4 + j], 0x20);
    to[4 + j] = _mm256_permute2f128_ps(a[j], a[4 + j], 0x31);
  }
}
#endif

#if defined(HONE_NEON)
// to[c] is column c of a 4 x 4 block.
inline void transpose4(const float* from, int64_t from_stride, Vec* to) {
  const float32x4x2_t even = vtrnq_f32(load(from), load(from + from_stride));
  const float32x4x2_t odd = vtrnq_f32(load(from + 2 * from_stride), load(from + 3 * from_stride));
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    to[i] = vcombine_f32(vget_low_f32(even.val[i]), vget_low_f32(odd.val[i]));
    to[2 + i] = vcombine_f32(vget_high_f32(even.val[i]), vget_high_f32(odd.val[i]));
  }
}
#endif

// to[c][r] = from[r][c] for a 16 x 16 block of 32-bit elements; strides in elements.
inline void transpose16(const uint32_t* from, int64_t from_stride, uint32_t* to, int64_t to_stride) {
#if defined(HONE_VECTOR_AVX512)
  __m512 a[16], b[16];
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_ps(from + i * from_stride);
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  // After this step a[4*g + j] holds, in its 128-bit lane l, column 4*l + j of rows 4*g … 4*g + 3.
  for (int g = 0; g < 16; g += 4) {
    const __m512d low0 = _mm512_castps_pd(b[g]), low1 = _mm512_castps_pd(b[g + 2]);
    const __m512d high0 = _mm512_castps_pd(b[g + 1]), high1 = _mm512_castps_pd(b[g + 3]);
    a[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(low0, low1));
    a[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low0, low1));
    a[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high0, high1));
    a[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high0, high1));
  }
  for (int j = 0; j < 4; ++j) {
    const __m512 low01 = _mm512_shuffle_f32x4(a[j], a[4 + j], 0x88),
                 high01 = _mm512_shuffle_f32x4(a[j], a[4 + j], 0xdd);
    const __m512 low23 = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0x88);
    const __m512 high23 = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0xdd);
    _mm512_storeu_ps(to + j * to_stride, _mm512_shuffle_f32x4(low01, low23, 0x88));
    _mm512_storeu_ps(to + (4 + j) * to_stride, _mm512_shuffle_f32x4(high01, high23, 0x88));
    _mm512_storeu_ps(to + (8 + j) * to_stride, _mm512_shuffle_f32x4(low01, low23, 0xdd));
    _mm512_storeu_ps(to + (12 + j) * to_stride, _mm512_shuffle_f32x4(high01, high23, 0xdd));
  }
#elif defined(HONE_VECTOR_AVX2)
  for (int block = 0; block < 4; ++block) {
    const uint32_t* source = from + block / 2 * 8 * from_stride + block % 2 * 8;
    uint32_t* target = to + block % 2 * 8 * to_stride + block / 2 * 8;
    Vec columns[8];
    transpose8(reinterpret_cast<const float*>(source), from_stride, columns);
    for (int c = 0; c < 8; ++c) store(reinterpret_cast<float*>(target + c * to_stride), columns[c]);
  }
#elif defined(HONE_NEON)
  for (int r = 0; r < 16; r += 4)
    for (int c = 0; c < 16; c += 4) {
      Vec columns[4];
      transpose4(reinterpret_cast<const float*>(from + r * from_stride + c), from_stride, columns);
      for (int i = 0; i < 4; ++i) store(reinterpret_cast<float*>(to + (c + i) * to_stride + r), columns[i]);
    }
#else
  for (int c = 0; c < 16; ++c)
    for (int r = 0; r < 16; ++r) to[c * to_stride + r] = from[r * from_stride + c];
#endif
}

}  // namespace hone::kernels::HONE_ISA
