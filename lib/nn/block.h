// One layer: norm, attention, norm, feed-forward, around a residual stream in f32.
#pragma once

#include "nn/attention/attention.h"
#include "nn/feed_forward.h"

namespace hone {

// The stream between blocks: the sum so far, and the last branch not yet added (the next norm adds it in its own pass).
struct Stream {
  Var residual, branch;
  Var loss;  // [1] f32: the sum so far of what modules add to the training loss; empty where there is none
};

struct Block {
  Norm attention_norm;
  Attention attention;
  Norm feed_forward_norm;
  std::unique_ptr<FeedForward> feed_forward;

  static Block make(const BlockBlueprint& blueprint, const LayerBlueprint& layer);
  Stream forward(const Stream& in, Forward& call, LayerCache* cache);
  // Its two halves, one after the other.
  Stream mix(const Stream& in, Forward& call, LayerCache* cache);
  Stream feed(const Stream& in, Forward& call);
  void visit(const std::string& prefix, Visitor& visitor);
};

}  // namespace hone
