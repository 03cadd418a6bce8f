#include "kernels/rows/short_conv.h"

#include <algorithm>
#include <cassert>

#include "kernels/isa/function.h"
#include "kernels/isa/rows/short_conv.h"
#include "kernels/parallel.h"

namespace hone::kernels {
namespace {

// Calls f(begin, end) for blocks of channels, which are the same for every number of threads.
template <class F>
void by_channels(const ShortConv& conv, int64_t rows, F&& f) {
  assert(conv.taps >= 1 && conv.taps <= ShortConv::most_taps);
  const int64_t blocks = (conv.width + short_conv_lanes - 1) / short_conv_lanes;
  parallel_for(blocks, row_grain(rows * (conv.taps + 2) * short_conv_lanes), [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block)
      f(block * short_conv_lanes, std::min(conv.width, (block + 1) * short_conv_lanes));
  });
}

}  // namespace

void short_conv_forward(const ShortConv& conv, ConstView in, std::span<const ShortConvSpan> spans, View out,
                        float* gated) {
  const auto& f = functions<ShortConvFunctions>();
  const auto count = static_cast<int64_t>(spans.size());
  by_channels(conv, in.rows,
              [&](int64_t begin, int64_t end) { f.forward(conv, in, spans.data(), count, out, gated, begin, end); });
}

void short_conv_backward(const ShortConv& conv, ConstView in, ConstView d_out, std::span<const ShortConvSpan> spans,
                         View d_in, float* d_kernel) {
  const auto& f = functions<ShortConvFunctions>();
  const auto count = static_cast<int64_t>(spans.size());
  by_channels(conv, in.rows, [&](int64_t begin, int64_t end) {
    f.backward(conv, in, d_out, spans.data(), count, d_in, d_kernel, begin, end);
  });
}

}  // namespace hone::kernels
