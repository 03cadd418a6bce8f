// A segment of rows that are integers.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace hone::kernels::HONE_ISA::integers {

// What a segment's sums need beside the tiles.
struct Segment {
  const uint8_t* x;       // activations of the segment's first step, row 0: 4 or 8 bytes a step
  int64_t row_bytes;      // to the next row of x
  const int32_t* starts;  // [rows]: of the sums, minus what the offset of the weights adds
  const float* x_scales;  // [rows]
  const bf16* scales;     // [64]
  int64_t steps;
};

}  // namespace hone::kernels::HONE_ISA::integers
