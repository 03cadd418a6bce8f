#include "nn/linear.h"

#include <algorithm>

#include "weights/dense_weight.h"

namespace hone {
namespace {

std::shared_ptr<Parameter> vector_of(int64_t size, float value) {
  auto parameter = std::make_shared<Parameter>();
  parameter->value = Tensor::empty({size});
  std::ranges::fill(parameter->value.span<float>(), value);
  return parameter;
}

}  // namespace

Linear Linear::make(int64_t outputs, int64_t inputs, bool with_bias) {
  Linear layer;
  layer.weight = std::make_shared<DenseWeight>(Tensor::promised({outputs, inputs}));
  if (with_bias) layer.bias = vector_of(outputs, 0.0f);
  return layer;
}

Var Linear::forward(const Var& x, const Call& call, bool unread) const {
  if (call.trace.inputs) call.trace.inputs->observe(*weight, x.value().view());
  return ops::linear(x, weight, bias.get(), unread);
}

void Linear::visit(const Place& at, Role role, Visitor& visitor, bool gated, std::vector<int64_t> parts) {
  ParameterInfo info = at.info("weight", role);
  info.gated = gated;
  info.parts = gated ? std::vector<int64_t>(2, weight->rows() / 2) : std::move(parts);
  visitor.weight(info, weight);
  if (!bias) return;
  ParameterInfo of_bias = at.info("bias", Role::bias);
  of_bias.of = role;
  of_bias.gated = gated;
  visitor.parameter(of_bias, *bias);
}

Norm Norm::make(const BlockBlueprint& blueprint) {
  Norm norm;
  norm.kind = blueprint.norm;
  norm.epsilon = blueprint.norm_epsilon;
  norm.gain = vector_of(blueprint.dim, 1.0f);
  if (blueprint.biases) norm.bias = vector_of(blueprint.dim, 0.0f);
  return norm;
}

Norm Norm::of_head(const BlockBlueprint& blueprint) {
  Norm norm;
  norm.epsilon = blueprint.norm_epsilon;
  norm.gain = vector_of(blueprint.head_dim, 1.0f);
  return norm;
}

ops::Normed Norm::forward(const Var& residual, const Var& branch, DType type) const {
  return ops::add_norm(residual, branch, *gain, bias.get(), kind == NormKind::layer_norm, epsilon, type);
}

void Norm::visit(const Place& at, Visitor& visitor) {
  visitor.parameter(at.info("gain", Role::gain), *gain);
  if (bias) visitor.parameter(at.info("bias", Role::bias), *bias);
}

}  // namespace hone
