// Two rows of a matrix side by side: a row of the bf16 panels whose outputs are the matrix's columns.
#pragma once

#include "kernels/isa/vector_math.h"
#include "kernels/view.h"

namespace hone::kernels::HONE_ISA {

constexpr int64_t panel_width = 64;  // outputs of a panel

inline uint32_t half_bits(bf16 x) {
  return x.bits;
}
inline uint32_t half_bits(float x) {
  bf16 rounded;
  narrow(x, rounded);
  return rounded.bits;
}

// Columns first … first + outputs - 1 of rows 2 * pair (low halves) and 2 * pair + 1 of x as out[panel_width]; zeros
// beyond the rows of x and beyond `outputs`.
template <class T>
[[gnu::always_inline]] inline void interleave_pair(ConstView x, int64_t pair, int64_t first, int64_t outputs,
                                                   uint32_t* out) {
  const int64_t k = 2 * pair;
  const T* even = x.row<T>(k < x.rows ? k : 0) + first;
  const T* odd = x.row<T>(k + 1 < x.rows ? k + 1 : 0) + first;
  const uint32_t keep = (k < x.rows ? 0x0000ffffu : 0u) | (k + 1 < x.rows ? 0xffff0000u : 0u);
#pragma omp simd
  for (int64_t i = 0; i < outputs; ++i) out[i] = (half_bits(even[i]) | half_bits(odd[i]) << 16) & keep;
  for (int64_t i = outputs; i < panel_width; ++i) out[i] = 0;
}

}  // namespace hone::kernels::HONE_ISA
