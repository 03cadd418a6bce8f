#include "nn/block.h"

#include "nn/skip.h"

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
  if (layer.exit) block.exit_norm = Norm::make(blueprint);
  block.parallel = blueprint.parallel && block.mixer && block.feed_forward;
  return block;
}

Stream Block::mix(const Stream& in, const Call& call, int64_t layer, LayerState* state) const {
  if (!mixer) return in;
  const ops::Normed normed = mixer_norm.forward(in.residual, in.branch, call.type);
  const Var mixed = for_some(normed.y, call, layer,
                             [&](const Var& x, const Call& some) { return mixer->forward(x, some, layer, state); });
  return {normed.residual, ops::dropout(mixed, call.noise.dropout, call.noise.at(layer, Site::mixer)), in.terms};
}

void Block::remember(const Stream& in, const Call& call, int64_t layer, LayerState* state) const {
  if (mixer) mixer->remember(mixer_norm.forward(in.residual, in.branch, call.type).y, call, layer, state);
}

Stream Block::feed(const Stream& in, const Call& call, int64_t layer) const {
  if (!feed_forward) return in;
  const ops::Normed normed = feed_forward_norm.forward(in.residual, parallel ? Var() : in.branch, call.type);
  std::vector<LossTerm> terms = in.terms;
  const Var out = for_some(normed.y, call, layer, [&](const Var& x, const Call& some) {
    const FeedForwardOutput made = feed_forward->forward(x, some, layer);
    terms.insert(terms.end(), made.terms.begin(), made.terms.end());
    return made.y;
  });
  const Var fed = ops::dropout(out, call.noise.dropout, call.noise.at(layer, Site::feed_forward));
  return {normed.residual, parallel ? ops::sum(in.branch, fed) : fed, std::move(terms)};
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
  if (exits()) exit_norm.visit(at.in("exit_norm"), visitor);
}

}  // namespace hone
