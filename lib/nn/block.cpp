#include "nn/block.h"

#include "nn/skip.h"

namespace hone {

Block Block::make(const BlockBlueprint& blueprint, const LayerBlueprint& layer, const Shares& shares) {
  Block block;
  if (layer.mixes()) {
    block.mixer_norm = Norm::make(blueprint, layer.own_projections());
    block.mixer = Mixer::make(blueprint, layer, shares.matrices);
  }
  if (layer.feeds()) {
    block.feed_forward_norm = Norm::make(blueprint, layer.own_projections());
    block.feed_forward = FeedForward::make(blueprint, layer, shares);
  }
  if (layer.depth_fraction > 0) block.router = std::make_unique<DepthRouter>(blueprint, layer);
  if (layer.exit) block.exit_norm = Norm::make(blueprint);
  block.parallel = blueprint.parallel && block.mixer && block.feed_forward;
  return block;
}

Stream Block::mix(const Stream& in, const Call& call, int64_t layer, LayerState* state) const {
  if (!mixer) return in;
  const ops::Normed normed = mixer_norm.forward(in.residual, in.branch, call);
  const Var mixed = for_some(normed.y, call, layer,
                             [&](const Var& x, const Call& some) { return mixer->forward(x, some, layer, state); });
  return {normed.residual, ops::dropout(mixed, call.noise.dropout, call.noise.at(layer, Site::mixer)), in.terms};
}

void Block::remember(const Stream& in, const Call& call, int64_t layer, LayerState* state) const {
  if (!mixer) return;
  if (!router) return mixer->remember(mixer_norm.forward(in.residual, in.branch, call).y, call, layer, state);
  auto* const of_some = static_cast<DepthState*>(state);
  const ops::Normed normed = router->norm.forward(in.residual, in.branch, call.type);
  const DepthRouter::Choice choice = router->choose(normed.y, call, layer, of_some);
  if (choice.plan->slots == 0) return;
  const Var rows = ops::gather_slots(normed.residual, choice.plan);
  mixer->remember(mixer_norm.forward(rows, Var(), choice.call).y, choice.call, layer, of_some->inner());
}

Stream Block::feed(const Stream& in, const Call& call, int64_t layer) const {
  if (!feed_forward) return in;
  const ops::Normed normed = feed_forward_norm.forward(in.residual, parallel ? Var() : in.branch, call);
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
  if (router && (mixer || feed_forward)) return pass_some(in, call, layer, static_cast<DepthState*>(state));
  return feed(mix(in, call, layer, state), call, layer);
}

// Equation 1 of arXiv 2404.02258: rows that go through get what both halves add to them, times their gates.
Stream Block::pass_some(const Stream& in, const Call& call, int64_t layer, DepthState* state) const {
  const ops::Normed normed = router->norm.forward(in.residual, in.branch, call.type);
  const DepthRouter::Choice choice = router->choose(normed.y, call, layer, state);
  std::vector<LossTerm> terms = in.terms;
  terms.insert(terms.end(), choice.terms.begin(), choice.terms.end());
  if (choice.plan->slots == 0)
    return {normed.residual, Var(Tensor::zeros(in.residual.shape(), call.type)), std::move(terms)};
  const Stream enters = {ops::gather_slots(normed.residual, choice.plan), Var(), {}};
  const Stream mixed = mix(enters, choice.call, layer, state ? state->inner() : nullptr);
  const Stream fed = feed(mixed, choice.call, layer);
  terms.insert(terms.end(), fed.terms.begin(), fed.terms.end());
  Var added = fed.branch;
  if (mixer && feed_forward && !parallel) {
    added = ops::sum(mixed.branch, fed.branch);
    if (Tape::recording()) {
      mixed.branch.drop_value();
      fed.branch.drop_value();
    }
  }
  return {normed.residual, ops::combine_slots(added, choice.gates, choice.plan, Var()), std::move(terms)};
}

std::unique_ptr<LayerState> Block::make_state(const StateShape& shape) const {
  const StateShape inner = router ? DepthState::inner_shape(shape) : shape;
  std::unique_ptr<LayerState> state = mixer ? mixer->make_state(inner) : std::make_unique<NoState>();
  return router ? std::make_unique<DepthState>(std::move(state), shape.sequences) : std::move(state);
}

double Block::state_bytes(const StateShape& shape) const {
  return mixer ? mixer->state_bytes(router ? DepthState::inner_shape(shape) : shape) : 0;
}

void Block::visit(const Place& at, Visitor& visitor) {
  if (mixer) {
    mixer_norm.visit(at.in(std::string(mixer->place()) + "_norm"), NormOf::mixer, visitor);
    mixer->visit(at.in(mixer->place()), visitor);
  }
  if (feed_forward) {
    feed_forward_norm.visit(at.in("feed_forward_norm"), NormOf::feed_forward, visitor);
    feed_forward->visit(at.in("feed_forward"), visitor);
  }
  if (router) router->visit(at.in("depth_router"), visitor);
  if (exits()) exit_norm.visit(at.in("exit_norm"), NormOf::exit, visitor);
}

}  // namespace hone
