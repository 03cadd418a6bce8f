// What each instruction set has of short convolutions (kernels/rows/short_conv.h): channels [begin, end), at most
// short_conv_lanes, on one thread.
#pragma once

#include "kernels/rows/short_conv.h"

namespace hone::kernels {

inline constexpr int64_t short_conv_lanes = 64;

struct ShortConvFunctions {
  void (*forward)(const ShortConv& conv, ConstView in, const ShortConvSpan* spans, int64_t count, View out,
                  float* gated, int64_t begin, int64_t end);
  void (*backward)(const ShortConv& conv, ConstView in, ConstView d_out, const ShortConvSpan* spans, int64_t count,
                   View d_in, float* d_kernel, int64_t begin, int64_t end);
};

}  // namespace hone::kernels
