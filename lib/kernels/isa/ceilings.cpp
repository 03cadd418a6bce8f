// Loops that do nothing but read memory or multiply and add in registers.
#include "kernels/isa/ceilings_table.h"

#if defined(HONE_ISA_avx512_bf16)
#include <immintrin.h>
#endif

namespace hone::kernels::HONE_ISA {
namespace {

#if defined(HONE_ISA_avx512) || defined(HONE_ISA_avx512_bf16)
constexpr int width = 64;  // bytes of a register
#elif defined(HONE_ISA_avx2)
constexpr int width = 32;
#else
constexpr int width = 16;
#endif

typedef float Floats __attribute__((vector_size(width)));
typedef uint64_t Words __attribute__((vector_size(width)));

constexpr int float_lanes = width / 4, word_lanes = width / 8;
// Registers in flight. A multiply-add takes 4 cycles and two may start in each, so that 8 would do; with two constants,
// 12 fit into the 16 registers of the smaller sets.
constexpr int sums = 12;
constexpr int streams = 8;

uint64_t read(const void* data, int64_t pages) {
  Words sum[streams] = {};
  const auto* at = static_cast<const Words*>(data);
  const Words* const end = at + pages * (CeilingFunctions::page / width);
  for (; at != end; at += streams)
#pragma GCC unroll 8
    for (int i = 0; i < streams; ++i) sum[i] += at[i];
  uint64_t total = 0;
  for (int i = 0; i < streams; ++i)
    for (int l = 0; l < word_lanes; ++l) total += sum[i][l];
  return total;
}

// Read at run time, so that the compiler can neither compute the loops below nor see that all their sums are equal.
volatile float zero = 0, half = 0.5f, one = 1;

float f32(int64_t iterations) {
  const Floats factor = Floats{} + half, step = Floats{} + one;
  Floats x[sums];
  for (int i = 0; i < sums; ++i) x[i] = Floats{} + zero;
  for (int64_t n = 0; n < iterations; ++n)
#pragma GCC unroll 12
    for (int i = 0; i < sums; ++i) x[i] = x[i] * factor + step;
  float total = 0;
  for (int i = 0; i < sums; ++i)
    for (int l = 0; l < float_lanes; ++l) total += x[i][l];
  return total;
}

#if defined(HONE_ISA_avx512_bf16)
float bf16_dot(int64_t iterations) {
  const __m512bh factor = _mm512_cvtne2ps_pbh(_mm512_set1_ps(half), _mm512_set1_ps(half));
  __m512 x[sums];
  for (int i = 0; i < sums; ++i) x[i] = _mm512_set1_ps(zero);
  for (int64_t n = 0; n < iterations; ++n)
#pragma GCC unroll 12
    for (int i = 0; i < sums; ++i) x[i] = _mm512_dpbf16_ps(x[i], factor, factor);
  float total = 0;
  for (int i = 0; i < sums; ++i)
    for (int l = 0; l < float_lanes; ++l) total += x[i][l];
  return total;
}
#endif

}  // namespace

CeilingFunctions ceiling_functions() {
  CeilingFunctions functions{read, f32, 2 * sums * float_lanes};
#if defined(HONE_ISA_avx512_bf16)
  functions.bf16 = bf16_dot;
  functions.bf16_flops = 4 * sums * float_lanes;
#endif
  return functions;
}

}  // namespace hone::kernels::HONE_ISA
