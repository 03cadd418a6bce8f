// Gated causal depthwise convolutions of few taps.
#pragma once

#include <vector>

#include "autograd/autograd.h"
#include "kernels/rows/short_conv.h"

namespace hone::ops {

// in [rows, 3 * width]: gates B, gates C, values x of each row. kernel [width, taps] f32, at most
// kernels::ShortConv::most_taps. What comes out is [rows, width]: C times the sum over k of kernel[k] times what B x
// was k rows before in the same span; before a span there is nothing. The spans cover all rows.
Var short_conv(const Var& in, Parameter& kernel, std::vector<kernels::ShortConvSpan> spans);

// The same as kernels take it.
kernels::ShortConv short_conv_of(const Parameter& kernel);

}  // namespace hone::ops
