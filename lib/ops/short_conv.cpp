#include "ops/short_conv.h"

#include <utility>

namespace hone::ops {

kernels::ShortConv short_conv_of(const Parameter& kernel) {
  return {kernel.value.dim(0), kernel.value.dim(1), kernel.value.data<float>()};
}

Var short_conv(const Var& in, Parameter& kernel, std::vector<kernels::ShortConvSpan> spans) {
  const Tensor y = Tensor::empty({in.shape()[0], kernel.value.dim(0)}, in.value().dtype());
  kernels::short_conv_forward(short_conv_of(kernel), in.value().view(), spans, y.view());
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record([in, output, spans = std::move(spans), &kernel] {
    const Tensor d = output.take_grad(), d_in = Tensor::empty(in.shape(), in.value().dtype());
    kernels::short_conv_backward(short_conv_of(kernel), in.value().view(), d.view(), spans, d_in.view(),
                                 kernel.trainable ? gradient_to_add(kernel).data<float>() : nullptr);
    in.add_grad(d_in);
  });
  return output;
}

}  // namespace hone::ops
