// What each instruction set has of kernels/gemm/int8.h: a panel, on one thread.
#pragma once

#include <cstdint>

#include "kernels/view.h"

namespace hone::kernels {

struct Int8Functions {
  // The panel [steps][64][4] and the scales [64] of outputs `first` … of W, rows of w or its columns where
  // `transposed`: bytes q + 128, and of what is beyond w the byte of 0.
  void (*pack)(ConstView w, bool transposed, int64_t first, uint8_t* values, bf16* scales);
};

}  // namespace hone::kernels
