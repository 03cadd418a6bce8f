#include "ops/depth.h"

#include <algorithm>
#include <cmath>

#include "kernels/rows/elementwise.h"

namespace hone::ops {
namespace {

float sigmoid(float x) {
  return 1 / (1 + std::exp(-x));
}

// relu(hidden x + hidden_bias), [rows, width].
Tensor hidden_of(const Tensor& x, const DepthPredictor& p) {
  const Tensor hidden = Tensor::empty({x.dim(0), p.hidden.value.dim(0)});
  kernels::router_logits(x.view(), p.hidden.value.view(), hidden.view());
  kernels::add_bias(hidden.view(), p.hidden_bias.value.data<float>());
  for (float& h : hidden.span<float>()) h = std::max(h, 0.0f);
  return hidden;
}

Tensor logits_of(const Tensor& hidden, const DepthPredictor& p) {
  const Tensor logits = Tensor::empty({hidden.dim(0), 1});
  kernels::router_logits(hidden.view(), p.output.value.view(), logits.view());
  kernels::add_bias(logits.view(), p.output_bias.value.data<float>());
  return logits.reshape({hidden.dim(0)});
}

void add_to_bias(Parameter& bias, const Tensor& d) {
  if (bias.trainable) kernels::add_column_sums(d.view(), gradient_to_add(bias).data<float>());
}

void add_to_weight(Parameter& weight, const Tensor& d, const Tensor& x) {
  if (weight.trainable) kernels::router_dw(d.view(), x.view(), gradient_to_add(weight).view());
}

// d_logits [rows, 1].
void predictor_backward(const Tensor& x, const Tensor& hidden, const Tensor& d_logits, const DepthPredictor& p) {
  add_to_weight(p.output, d_logits, hidden);
  add_to_bias(p.output_bias, d_logits);
  const Tensor d_hidden = Tensor::empty(hidden.shape());
  kernels::router_dx(d_logits.view(), p.output.value.view(), d_hidden.view());
  for (int64_t i = 0; i < hidden.size(); ++i)
    if (hidden.data<float>()[i] <= 0) d_hidden.data<float>()[i] = 0;
  add_to_weight(p.hidden, d_hidden, x);
  add_to_bias(p.hidden_bias, d_hidden);
}

}  // namespace

std::shared_ptr<const RoutePlan> passing_plan(std::span<const int32_t> passing, int64_t rows) {
  auto plan = std::make_shared<RoutePlan>();
  plan->rows = rows;
  plan->top_k = 1;
  plan->slots = static_cast<int64_t>(passing.size());
  plan->counts = {plan->slots};
  plan->offsets = {0, plan->slots};
  plan->places = Tensor::empty({rows, 1}, DType::i32);
  plan->sources = Tensor::empty({std::max<int64_t>(plan->slots, 1)}, DType::i32);
  std::ranges::fill(plan->places.span<int32_t>(), -1);
  for (size_t i = 0; i < passing.size(); ++i) {
    plan->places.data<int32_t>()[passing[i]] = static_cast<int32_t>(i);
    plan->sources.data<int32_t>()[i] = passing[i];
  }
  return plan;
}

Tensor predicted(const Tensor& x, const DepthPredictor& predictor) {
  return logits_of(hidden_of(x, predictor), predictor);
}

DepthPrediction depth_prediction(const Tensor& x, const DepthPredictor& predictor, std::span<const uint8_t> best) {
  const Tensor hidden = hidden_of(x, predictor), logits = logits_of(hidden, predictor);
  const int64_t rows = x.dim(0);
  double sum = 0;
  const Tensor d_logits = Tensor::empty({rows, 1});
  for (int64_t r = 0; r < rows; ++r) {
    const float z = logits.data<float>()[r], target = best[static_cast<size_t>(r)] ? 1.0f : 0.0f;
    sum += static_cast<double>(std::max(z, 0.0f) - z * target + std::log1p(std::exp(-std::abs(z))));
    d_logits.data<float>()[r] = (sigmoid(z) - target) / static_cast<float>(rows);
  }
  const bool recording = Tape::recording();
  const DepthPrediction result = {
      logits, Var(Tensor::of({1}, {static_cast<float>(sum / static_cast<double>(rows))}), recording)};
  if (recording)
    Tape::record([x, hidden, d_logits, predictor, loss = result.loss] {
      kernels::scale(d_logits.view(), loss.take_grad().data<float>()[0]);
      predictor_backward(x, hidden, d_logits, predictor);
    });
  return result;
}

}  // namespace hone::ops
