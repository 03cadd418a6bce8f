#include "nn/linear.h"

#include <algorithm>

#include "weights/dense_weight.h"

namespace hone {

Linear Linear::make(int64_t outputs, int64_t inputs, bool with_bias) {
  Linear layer;
  layer.weight = std::make_shared<DenseWeight>(Tensor::empty({outputs, inputs}));
  if (with_bias) layer.bias.emplace().value = Tensor::zeros({outputs});
  return layer;
}

Var Linear::forward(const Var& x) {
  if (observer) observer->observe(x.value().view());
  return ops::linear(x, weight, bias ? &*bias : nullptr);
}

void Linear::visit(const std::string& prefix, Visitor& visitor) {
  visitor.weight(prefix + ".weight", weight, this);
  if (bias) visitor.parameter(prefix + ".bias", *bias);
}

Norm Norm::make(const BlockBlueprint& blueprint) {
  Norm norm;
  norm.kind = blueprint.norm;
  norm.epsilon = blueprint.norm_epsilon;
  norm.gain.value = Tensor::empty({blueprint.dim});
  std::ranges::fill(norm.gain.value.span<float>(), 1.0f);
  if (blueprint.biases) norm.bias.emplace().value = Tensor::zeros({blueprint.dim});
  return norm;
}

ops::Normed Norm::forward(const Var& residual, const Var& branch, DType type) {
  return ops::add_norm(residual, branch, gain, bias ? &*bias : nullptr, kind == NormKind::layer_norm, epsilon, type);
}

void Norm::visit(const std::string& prefix, Visitor& visitor) {
  visitor.parameter(prefix + ".gain", gain);
  if (bias) visitor.parameter(prefix + ".bias", *bias);
}

}  // namespace hone
