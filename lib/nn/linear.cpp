#include "nn/linear.h"

#include <algorithm>

#include "ops/kinds.h"
#include "ops/mixture.h"
#include "ops/ranks.h"
#include "ops/take.h"
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

Linear Linear::make(int64_t outputs, int64_t inputs, bool with_bias, const std::vector<std::string>& others,
                    const RankPart& part) {
  Linear layer;
  for (size_t k = 0; k < others.size(); ++k) layer.others.push_back(make(outputs, inputs, with_bias, {}, part));
  layer.other_names = others;
  layer.part = part;
  const Shape shape = part_shape(part, {outputs, inputs});
  layer.weight = std::make_shared<DenseWeight>(Tensor::promised(shape));
  if (with_bias) layer.bias = vector_of(shape[0], 0.0f);
  return layer;
}

Var Linear::forward_by_kind(const Var& x, const Call& call, std::optional<ops::EightBits> eight_bits) const {
  const auto& plan = call.batch.by_kind();
  const Var rows = ops::gather_slots(x, plan);
  std::vector<ops::ExpertLinear> layers = {{weight, bias.get()}};
  for (const Linear& other : others) layers.push_back({other.weight, other.bias.get()});
  for (size_t k = 0; call.trace.inputs && k < layers.size(); ++k)
    if (const int64_t count = plan->counts[k])
      call.trace.inputs->observe(*layers[k].weight, rows.value().rows(plan->offsets[k], count).view());
  return ops::put_rows(ops::grouped_linear(rows, plan, std::move(layers), eight_bits), plan->sources.span<int32_t>(),
                       plan->rows, 1);
}

Var Linear::forward(const Var& x, const Call& call, std::optional<ops::EightBits> eight_bits, bool unread) const {
  if (!others.empty() && call.batch.by_kind()) return forward_by_kind(x, call, eight_bits);
  if (call.trace.inputs) call.trace.inputs->observe(*weight, x.value().view());
  switch (part.of) {
    case RankPart::Of::rows:
      return ops::linear(ops::for_parts(x, call.ranks), weight, bias.get(), unread, eight_bits);
    case RankPart::Of::columns:
      return ops::sum_of_parts(ops::linear(x, weight, nullptr, unread, eight_bits), call.ranks, bias.get());
    case RankPart::Of::whole:
    case RankPart::Of::nothing:
      break;
  }
  return ops::linear(x, weight, bias.get(), unread, eight_bits);
}

void Linear::visit(const Place& at, Role role, Visitor& visitor, bool gated, std::vector<int64_t> parts) {
  ParameterInfo info = at.info("weight", role);
  info.gated = gated;
  info.parts = gated ? std::vector<int64_t>(2, weight->rows() / 2) : parts;
  if (part.divided()) info.part = part;
  if (!others.empty()) info.kind = 0;
  visitor.weight(info, weight);
  if (bias) {
    ParameterInfo of_bias = at.info("bias", Role::bias);
    of_bias.of = role;
    of_bias.gated = gated;
    of_bias.kind = info.kind;
    of_bias.parts = info.parts;
    if (part.of == RankPart::Of::rows) of_bias.part = part;
    visitor.parameter(of_bias, *bias);
  }
  for (size_t k = 0; k < others.size(); ++k) {
    Place other = at.in(other_names[k]);
    other.kind = static_cast<int64_t>(k) + 1;
    others[k].visit(other, role, visitor, gated, parts);
  }
}

Norm Norm::make(const BlockBlueprint& blueprint, const std::vector<std::string>& others) {
  Norm norm;
  for (size_t k = 0; k < others.size(); ++k) norm.others.push_back(make(blueprint));
  norm.other_names = others;
  if (!others.empty()) {
    norm.ones = vector_of(blueprint.dim, 1.0f);
    norm.ones->trainable = false;
  }
  norm.kind = blueprint.norm;
  norm.epsilon = blueprint.norm_epsilon;
  norm.gain = vector_of(blueprint.dim, 1.0f);
  if (blueprint.biases) norm.bias = vector_of(blueprint.dim, 0.0f);
  return norm;
}

Norm Norm::of_heads(const BlockBlueprint& blueprint, int64_t numbers) {
  Norm norm;
  norm.epsilon = blueprint.norm_epsilon;
  norm.gain = vector_of(numbers, 1.0f);
  return norm;
}

// What all kinds have in common first, then the gain of each row's kind.
ops::Normed Norm::forward(const Var& residual, const Var& branch, const Call& call) const {
  if (others.empty() || !call.batch.by_kind()) return forward(residual, branch, call.type);
  std::vector<Parameter*> gains = {gain.get()}, biases = {bias.get()};
  for (const Norm& other : others) {
    gains.push_back(other.gain.get());
    biases.push_back(other.bias.get());
  }
  const ops::Normed normed = info_of(kind).add(residual, branch, *ones, nullptr, epsilon, call.type);
  const std::span<const int32_t> kinds = call.batch.kinds();
  return {normed.residual, ops::gain_by_kind(normed.y, {kinds.begin(), kinds.end()}, std::move(gains),
                                             bias ? std::move(biases) : std::vector<Parameter*>())};
}

ops::Normed Norm::forward(const Var& residual, const Var& branch, DType type) const {
  return info_of(kind).add(residual, branch, *gain, bias.get(), epsilon, type);
}

void Norm::visit(const Place& at, NormOf of, Visitor& visitor) {
  Place own = at;
  if (!others.empty()) own.kind = 0;
  ParameterInfo info = own.info("gain", Role::gain);
  info.norm = of;
  visitor.parameter(info, *gain);
  if (bias) {
    info = own.info("bias", Role::bias);
    info.norm = of;
    visitor.parameter(info, *bias);
  }
  for (size_t k = 0; k < others.size(); ++k) {
    Place other = at.in(other_names[k]);
    other.kind = static_cast<int64_t>(k) + 1;
    others[k].visit(other, of, visitor);
  }
}

}  // namespace hone
