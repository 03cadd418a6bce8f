#include "nn/feed_forward.h"

#include "nn/mixture.h"
#include "ops/activation.h"

namespace hone {

std::unique_ptr<FeedForward> FeedForward::make(const BlockBlueprint& blueprint, const LayerBlueprint& layer) {
  if (layer.experts > 0) return std::make_unique<Mixture>(blueprint, layer);
  return std::make_unique<DenseFeedForward>(blueprint, layer.ffn, layer.own_feed_forwards());
}

Var activate(ActivationKind kind, const Var& x) {
  switch (kind) {
    case ActivationKind::swiglu:
      return ops::swiglu(x);
    case ActivationKind::gelu:
      return ops::gelu(x);
    default:
      return ops::gelu_erf(x);
  }
}

DenseFeedForward::DenseFeedForward(const BlockBlueprint& blueprint, int64_t width,
                                   const std::vector<std::string>& others)
    : activation(blueprint.activation),
      up(Linear::make(activation == ActivationKind::swiglu ? 2 * width : width, blueprint.dim, blueprint.biases,
                      others)),
      down(Linear::make(blueprint.dim, width, blueprint.biases, others)) {}

FeedForwardOutput DenseFeedForward::forward(const Var& x, const Call& call, int64_t) const {
  return {down.forward(activate(activation, up.forward(x, call)), call, call.unread), {}};
}

void DenseFeedForward::visit(const Place& at, Visitor& visitor) {
  const bool gated = activation == ActivationKind::swiglu;
  up.visit(at.in(gated ? "gate_up" : "up"), Role::up, visitor, gated);
  down.visit(at.in("down"), Role::down, visitor);
}

}  // namespace hone
