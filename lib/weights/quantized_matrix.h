// A matrix as small integers, each of which names a number, with scales: what quantization produces and packed weights
// are built from.
#pragma once

#include <cstdint>

#include "kernels/packed/element.h"
#include "tensor/bitmask.h"

namespace hone {

// weight[r, c] = number(integers[r, c]) * scales[r, c / group], with the numbers of the element: the integers
// themselves, of most. A scale may be negative: the integers of some elements reach
// farther on one side (int4: from -8 to 7), and the sign puts that side where the group's largest weight is. Where a
// group holds only zeros its scale is 0.
struct QuantizedMatrix {
  int64_t rows = 0, cols = 0;
  int64_t group = 0;  // columns that share a scale, the last group of a row may be shorter; 0: one scale a row
  kernels::PackedElement element{};  // one that is scaled
  Tensor integers;                   // i8 [rows, cols], each with a code of the element; 0 where pruned
  Tensor scales;                     // f32 [rows, groups], values representable in bf16
  Bitmask mask;
};

// Scales a row of `cols` columns has.
inline int64_t group_count(int64_t cols, int64_t group) {
  return group ? (cols + group - 1) / group : 1;
}

Tensor dequantize(const QuantizedMatrix& matrix);  // f32 [rows, cols]

}  // namespace hone
