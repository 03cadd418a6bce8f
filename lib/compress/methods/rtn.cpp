// Every weight to the nearest number of the element, by the scale that just reaches the largest weight.
#include "compress/methods/round_method.h"
#include "kernels/packed/packed.h"

namespace hone {
namespace {

RoundedWeight round_without_scales(const Tensor& weight, kernels::PackedElement element) {
  RoundedWeight rounded;
  rounded.values = Tensor::empty(weight.shape());
  kernels::nearest_numbers(element, weight.span<float>(), rounded.values.span<float>());
  const float* from = weight.data<float>();
  const float* to = rounded.values.data<float>();
  double error = 0, norm = 0;
  for (int64_t i = 0; i < weight.size(); ++i) {
    const double d = static_cast<double>(to[i] - from[i]);
    error += d * d;
    norm += static_cast<double>(from[i]) * static_cast<double>(from[i]);
  }
  rounded.relative_error = norm > 0 ? error / norm : 0;
  return rounded;
}

RoundedWeight round_to_nearest(const WeightToRound& what) {
  return kernels::info_of(what.element).scaled ? round_to_integers(what, false, {})
                                               : round_without_scales(what.weight, what.element);
}

}  // namespace

RoundMethod rtn_method() {
  RoundMethod method{"rtn", "round to nearest, by the scale that reaches the largest weight (its other name: nearest)",
                     {},    MeasuredBehind::layers,
                     true,  round_to_nearest};
  method.searches = false;
  method.also = "nearest";
  return method;
}

}  // namespace hone
