// Causal depthwise convolutions of few taps between two gates, over rows of a fused projection: gates B, gates C,
// values x. A row's channel becomes C times the sum over k of kernel[k] times what B x was k rows before.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/view.h"

namespace hone::kernels {

struct ShortConv {
  static constexpr int64_t most_taps = 64;

  int64_t width = 0;              // channels
  int64_t taps = 0;               // 1 to most_taps
  const float* kernel = nullptr;  // [width, taps]: of each channel the factor of the row itself, of the one before, …
};

// Consecutive rows of one sequence, which see no others.
struct ShortConvSpan {
  int64_t first_row = 0, rows = 0;
  const float* before = nullptr;  // [taps - 1, width]: B x of the rows before the first, in order; null: zeros
};

// in [rows, 3 * width] T: B, C and x of each row. out [rows, width] T. `gated` [rows, width]: B x; null: not wanted.
// A row's bits do not depend on where its span begins, nor on the threads.
void short_conv_forward(const ShortConv& conv, ConstView in, std::span<const ShortConvSpan> spans, View out,
                        float* gated = nullptr);

// Of spans with nothing before them. d_in [rows, 3 * width] T is written in the rows of the spans. d_kernel
// [width, taps] += its gradient; null: not wanted. Repeats bit for bit with any number of threads.
void short_conv_backward(const ShortConv& conv, ConstView in, ConstView d_out, std::span<const ShortConvSpan> spans,
                         View d_in, float* d_kernel);

}  // namespace hone::kernels
