#include "nn/block.h"

#include "ops/mixture.h"

namespace hone {

Block Block::make(const BlockBlueprint& blueprint, const LayerBlueprint& layer) {
  return {Norm::make(blueprint), Attention::make(blueprint, layer), Norm::make(blueprint),
          FeedForward::make(blueprint, layer)};
}

Stream Block::forward(const Stream& in, Forward& call, LayerCache* cache) {
  const ops::Normed first = attention_norm.forward(in.residual, in.branch, call.type);
  const Var attended = ops::dropout(attention.forward(first.y, call, cache), call.dropout, call.next_dropout());
  const ops::Normed second = feed_forward_norm.forward(first.residual, attended, call.type);
  const FeedForwardOutput out = feed_forward->forward(second.y, call);
  return {second.residual, ops::dropout(out.y, call.dropout, call.next_dropout()), ops::add_losses(in.loss, out.loss)};
}

void Block::visit(const std::string& prefix, Visitor& visitor) {
  attention_norm.visit(prefix + ".attention_norm", visitor);
  attention.visit(prefix + ".attention", visitor);
  feed_forward_norm.visit(prefix + ".feed_forward_norm", visitor);
  feed_forward->visit(prefix + ".feed_forward", visitor);
}

}  // namespace hone
