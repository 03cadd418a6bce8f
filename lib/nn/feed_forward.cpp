#include "nn/feed_forward.h"

#include "ops/activation.h"

namespace hone {

FeedForward FeedForward::make(const BlockBlueprint& blueprint, const LayerBlueprint& layer) {
  const int64_t gates = blueprint.activation == ActivationKind::swiglu ? 2 : 1;
  return {blueprint.activation, Linear::make(gates * layer.ffn, blueprint.dim, blueprint.biases),
          Linear::make(blueprint.dim, layer.ffn, blueprint.biases)};
}

Var FeedForward::forward(const Var& x) {
  const Var hidden = up.forward(x);
  return down.forward(activation == ActivationKind::swiglu ? ops::swiglu(hidden) : ops::gelu(hidden));
}

void FeedForward::visit(const std::string& prefix, Visitor& visitor) {
  up.visit(prefix + (activation == ActivationKind::swiglu ? ".gate_up" : ".up"), visitor);
  down.visit(prefix + ".down", visitor);
}

}  // namespace hone
