// Every weight to the nearest number of the element, by the scale that just reaches the largest weight.
#include "compress/methods/round_method.h"
#include "kernels/parallel.h"

namespace hone {
namespace {

RoundedWeight round_to_bf16(const Tensor& weight) {
  RoundedWeight rounded;
  rounded.values = Tensor::empty(weight.shape());
  const float* from = weight.data<float>();
  float* to = rounded.values.data<float>();
  kernels::parallel_for(weight.size(), 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = to_float(to_bf16(from[i]));
  });
  double error = 0, norm = 0;
  for (int64_t i = 0; i < weight.size(); ++i) {
    const double d = static_cast<double>(to[i] - from[i]);
    error += d * d;
    norm += static_cast<double>(from[i]) * static_cast<double>(from[i]);
  }
  rounded.relative_error = norm > 0 ? error / norm : 0;
  return rounded;
}

RoundedWeight nearest(const WeightToRound& what) {
  return kernels::info_of(what.element).scaled() ? round_to_integers(what, false, {}) : round_to_bf16(what.weight);
}

}  // namespace

RoundMethod nearest_method() {
  RoundMethod method{"nearest", "the nearest number, by the scale that reaches the largest weight",
                     {},        MeasuredBehind::layers,
                     true,      nearest};
  method.searches = false;
  return method;
}

}  // namespace hone
