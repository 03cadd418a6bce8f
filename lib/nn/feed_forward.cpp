#include "nn/feed_forward.h"

#include "base/error.h"
#include "nn/mixture.h"

namespace hone {

std::unique_ptr<FeedForward> FeedForward::make(const BlockBlueprint& blueprint, const LayerBlueprint& layer,
                                               const Shares& shares) {
  if (layer.experts == 0)
    return std::make_unique<DenseFeedForward>(blueprint, layer.ffn, layer.own_feed_forwards(), shares.matrices);
  if (shares.matrices.count > 1) throw usage_error("ranks do not divide the matrices of experts");
  return std::make_unique<Mixture>(blueprint, layer, shares.experts);
}

DenseFeedForward::DenseFeedForward(const BlockBlueprint& blueprint, int64_t width,
                                   const std::vector<std::string>& others, const Share& share)
    : activation(blueprint.activation),
      up(info_of(activation).gated
             ? Linear::make(2 * width, blueprint.dim, blueprint.biases, others, share.rows({width, width}))
             : Linear::make(width, blueprint.dim, blueprint.biases, others, share.rows({width}))),
      down(Linear::make(blueprint.dim, width, blueprint.biases, others, share.columns({width}))) {}

FeedForwardOutput DenseFeedForward::forward(const Var& x, const Call& call, int64_t layer) const {
  const Var hidden = info_of(activation).function(up.forward(x, call, call.eight_bits_at(layer, Site::up)));
  return {down.forward(hidden, call, call.eight_bits_at(layer, Site::down), call.unread), {}};
}

void DenseFeedForward::visit(const Place& at, Visitor& visitor) {
  const bool gated = info_of(activation).gated;
  up.visit(at.in(gated ? "gate_up" : "up"), Role::up, visitor, gated);
  down.visit(at.in("down"), Role::down, visitor);
}

}  // namespace hone
