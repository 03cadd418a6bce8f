#include "nn/block.h"

#include "ops/mixture.h"

namespace hone {

Block Block::make(const BlockBlueprint& blueprint, const LayerBlueprint& layer) {
  return {Norm::make(blueprint), Attention::make(blueprint, layer), Norm::make(blueprint),
          FeedForward::make(blueprint, layer)};
}

Stream Block::mix(const Stream& in, Forward& call, LayerCache* cache) {
  const ops::Normed normed = attention_norm.forward(in.residual, in.branch, call.type);
  const Var attended = attention.forward(normed.y, call, cache);
  return {normed.residual, ops::dropout(attended, call.dropout, call.next_dropout()), in.loss};
}

Stream Block::feed(const Stream& in, Forward& call) {
  const ops::Normed normed = feed_forward_norm.forward(in.residual, in.branch, call.type);
  const FeedForwardOutput out = feed_forward->forward(normed.y, call);
  return {normed.residual, ops::dropout(out.y, call.dropout, call.next_dropout()), ops::add_losses(in.loss, out.loss)};
}

Stream Block::forward(const Stream& in, Forward& call, LayerCache* cache) {
  return feed(mix(in, call, cache), call);
}

void Block::visit(const std::string& prefix, Visitor& visitor) {
  attention_norm.visit(prefix + ".attention_norm", visitor);
  attention.visit(prefix + ".attention", visitor);
  feed_forward_norm.visit(prefix + ".feed_forward_norm", visitor);
  feed_forward->visit(prefix + ".feed_forward", visitor);
}

}  // namespace hone
