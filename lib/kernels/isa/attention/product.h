// The matrix product inside attention tiles, on operands packed in 32-bit units: one f32, or two bf16 that are
// neighbours along the contraction. Included only by kernels/isa/attention/*.cpp.
#pragma once

#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {

typedef uint32_t Unit __attribute__((may_alias));

// f32 operands, one a unit.
struct FloatOperand {
  using Element = float;
  static constexpr int per_unit = 1;
  static constexpr int exp_degree = 5;

  static Vec multiply_add(Vec sum, Unit a, Vec b) {
    float x;
    __builtin_memcpy(&x, &a, sizeof x);
    return sum + b * x;
  }
  // Values of one row at neighbouring columns.
  static void store_row(float* to, Vec v) { store(to, v); }
  // Rows 2i and 2i + 1 of a right-hand operand whose unit rows are `stride` units apart.
  static void store_row_pair(Unit* to, int64_t stride, Vec even, Vec odd) {
    __builtin_memcpy(to, &even, sizeof even);
    __builtin_memcpy(to + stride, &odd, sizeof odd);
  }
};

#if defined(__AVX512BF16__)
// bf16 operands, two a unit, multiplied by vdpbf16ps: products exact, sums in f32.
struct PairOperand {
  using Element = bf16;
  static constexpr int per_unit = 2;
  static constexpr int exp_degree = 4;

  static Vec multiply_add(Vec sum, Unit a, Vec b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(static_cast<int>(a)), (__m512bh)b);
  }
  static void store_row(bf16* to, Vec v) {
    const __m256bh rounded = _mm512_cvtneps_pbh(v);
    __builtin_memcpy(static_cast<void*>(to), &rounded, sizeof rounded);
  }
  static void store_row_pair(Unit* to, int64_t, Vec even, Vec odd) {
    alignas(64) static constexpr uint16_t interleave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                            21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                            11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i rounded = (__m512i)_mm512_cvtne2ps_pbh(odd, even);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(_mm512_load_si512(interleave), rounded));
  }
};
using HalfOperand = PairOperand;  // of bf16 rows
#elif defined(HONE_NEON_BF16)
// bf16 operands, two a unit, multiplied by BFDOT: products exact, sums in f32, rounded to odd.
struct PairOperand {
  using Element = bf16;
  static constexpr int per_unit = 2;
  static constexpr int exp_degree = 4;

  static Vec multiply_add(Vec sum, Unit a, Vec b) {
    return vbfdotq_f32(sum, vreinterpretq_bf16_u32(vdupq_n_u32(a)), vreinterpretq_bf16_f32(b));
  }
  static void store_row(bf16* to, Vec v) {
    const bfloat16x4_t rounded = vcvt_bf16_f32(v);
    __builtin_memcpy(static_cast<void*>(to), &rounded, sizeof rounded);
  }
  static void store_row_pair(Unit* to, int64_t, Vec even, Vec odd) {
    const uint16x4_t low = vreinterpret_u16_bf16(vcvt_bf16_f32(even)), high = vreinterpret_u16_bf16(vcvt_bf16_f32(odd));
    const uint16x8_t pairs = vcombine_u16(vzip1_u16(low, high), vzip2_u16(low, high));
    __builtin_memcpy(to, &pairs, sizeof pairs);
  }
};
using HalfOperand = PairOperand;
#else
using HalfOperand = FloatOperand;
#endif

// Left operand: unit k of row m is data[m * row + k * step].
struct Left {
  const Unit* data;
  int64_t row, step;
};

// Right operand: unit k of column n is data[k * step + n].
struct Right {
  const Unit* data;
  int64_t step;
};

template <class Op, int Rows, int Vecs>
inline void product_tile(int64_t units, Left a, Right b, float* c, int64_t c_stride, bool accumulate) {
  Vec sums[Rows][Vecs];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vecs; ++v) sums[r][v] = accumulate ? load(c + r * c_stride + v * lanes) : Vec{};
  const Unit* left = a.data;
  const Unit* right = b.data;
  for (int64_t k = 0; k < units; ++k, left += a.step, right += b.step) {
    Vec columns[Vecs];
#pragma GCC unroll 4
    for (int v = 0; v < Vecs; ++v) __builtin_memcpy(&columns[v], right + v * lanes, sizeof(Vec));
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < Vecs; ++v) sums[r][v] = Op::multiply_add(sums[r][v], left[r * a.row], columns[v]);
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vecs; ++v) store(c + r * c_stride + v * lanes, sums[r][v]);
}

// All rows of Vecs vectors of columns: tiles of Rows rows, then of half of that for the remainder.
template <class Op, int Rows, int Vecs>
inline void product_rows(int64_t rows, int64_t units, Left a, Right b, float* c, int64_t c_stride, bool accumulate) {
  for (; rows >= Rows; rows -= Rows, a.data += Rows * a.row, c += Rows * c_stride)
    product_tile<Op, Rows, Vecs>(units, a, b, c, c_stride, accumulate);
  if constexpr (Rows > 1)
    if (rows > 0) product_rows<Op, (Rows == 6 ? 4 : Rows / 2), Vecs>(rows, units, a, b, c, c_stride, accumulate);
}

// c[rows][columns] (+)= a[rows][units] b[units][columns]; columns is a multiple of 16.
template <class Op>
inline void product(int64_t rows, int64_t columns, int64_t units, Left a, Right b, float* c, int64_t c_stride,
                    bool accumulate) {
#if defined(HONE_VECTOR_AVX512)
  for (; columns >= 4 * lanes; columns -= 4 * lanes, b.data += 4 * lanes, c += 4 * lanes)
    product_rows<Op, 6, 4>(rows, units, a, b, c, c_stride, accumulate);
  if (columns >= 3 * lanes)
    product_rows<Op, 8, 3>(rows, units, a, b, c, c_stride, accumulate);
  else if (columns >= 2 * lanes)
    product_rows<Op, 8, 2>(rows, units, a, b, c, c_stride, accumulate);
  else if (columns >= lanes)
    product_rows<Op, 16, 1>(rows, units, a, b, c, c_stride, accumulate);
#elif defined(HONE_NEON)
  for (; columns >= 4 * lanes; columns -= 4 * lanes, b.data += 4 * lanes, c += 4 * lanes)
    product_rows<Op, 6, 4>(rows, units, a, b, c, c_stride, accumulate);  // 24 sums, 4 columns, a number: 29 registers
#else
  for (; columns >= 2 * lanes; columns -= 2 * lanes, b.data += 2 * lanes, c += 2 * lanes)
    product_rows<Op, 6, 2>(rows, units, a, b, c, c_stride, accumulate);  // 12 sums, 2 columns, a number: 15 registers
#endif
}

}  // namespace hone::kernels::HONE_ISA
