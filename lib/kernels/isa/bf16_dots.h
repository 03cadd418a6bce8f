// Dot products of pairs of bf16, where the instruction set has them (HONE_BF16_DOTS): each 32-bit lane of a sum gets
// both products of its pair. Included only by files of kernels/isa/.
#pragma once

#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {

#if defined(HONE_NEON_BF16)
typedef bfloat16x8_t Pairs;
inline Pairs broadcast_pair(int32_t pair) {
  return vreinterpretq_bf16_s32(vdupq_n_s32(pair));
}
inline Vec add_dots(Vec sum, Pairs a, Pairs b) {
  return vbfdotq_f32(sum, a, b);
}
#elif defined(HONE_BF16_DOTS)
typedef __m512bh Pairs;
inline Pairs broadcast_pair(int32_t pair) {
  return (__m512bh)_mm512_set1_epi32(pair);
}
inline Vec add_dots(Vec sum, Pairs a, Pairs b) {
  return _mm512_dpbf16_ps(sum, a, b);
}
#endif

}  // namespace hone::kernels::HONE_ISA
