#include "nn/block.h"

namespace hone {

Block Block::make(const BlockBlueprint& blueprint, const LayerBlueprint& layer) {
  Block block;
  if (layer.mixes()) {
    block.mixer_norm = Norm::make(blueprint);
    block.mixer = Mixer::make(blueprint, layer);
  }
  if (layer.feeds()) {
    block.feed_forward_norm = Norm::make(blueprint);
    block.feed_forward = FeedForward::make(blueprint, layer);
  }
  block.parallel = blueprint.parallel && block.mixer && block.feed_forward;
  return block;
}

Stream Block::mix(const Stream& in, const Call& call, int64_t layer, LayerState* state) const {
  if (!mixer) return in;
  const ops::Normed normed = mixer_norm.forward(in.residual, in.branch, call.type);
  const Var mixed = mixer->forward(normed.y, call, layer, state);
  return {normed.residual, ops::dropout(mixed, call.noise.dropout, call.noise.at(layer, Site::mixer)), in.terms};
}

Stream Block::feed(const Stream& in, const Call& call, int64_t layer) const {
  if (!feed_forward) return in;
  const ops::Normed normed = feed_forward_norm.forward(in.residual, parallel ? Var() : in.branch, call.type);
  const FeedForwardOutput out = feed_forward->forward(normed.y, call, layer);
  const Var fed = ops::dropout(out.y, call.noise.dropout, call.noise.at(layer, Site::feed_forward));
  Stream result{normed.residual, parallel ? ops::sum(in.branch, fed) : fed, in.terms};
  result.terms.insert(result.terms.end(), out.terms.begin(), out.terms.end());
  return result;
}

Stream Block::forward(const Stream& in, const Call& call, int64_t layer, LayerState* state) const {
  return feed(mix(in, call, layer, state), call, layer);
}

void Block::visit(const Place& at, Visitor& visitor) {
  if (mixer) {
    mixer_norm.visit(at.in("attention_norm"), visitor);
    mixer->visit(at.in("attention"), visitor);
  }
  if (feed_forward) {
    feed_forward_norm.visit(at.in("feed_forward_norm"), visitor);
    feed_forward->visit(at.in("feed_forward"), visitor);
  }
}

}  // namespace hone
