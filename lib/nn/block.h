// One layer: norm, mixer, norm, feed-forward, around a residual stream in f32. A layer without one of the halves has
// neither that nor its norm.
#pragma once

#include "nn/feed_forward.h"
#include "nn/mixer.h"

namespace hone {

// The stream between blocks: the sum so far, and the last branch not yet added (the next norm adds it in its own pass).
struct Stream {
  Var residual, branch;
  std::vector<LossTerm> terms;  // what modules add to the training loss
};

struct Block {
  Norm mixer_norm;
  std::unique_ptr<Mixer> mixer;  // null: none
  Norm feed_forward_norm;
  std::unique_ptr<FeedForward> feed_forward;  // null: none
  Norm exit_norm;                             // of an exit behind the block; without a gain: none
  // Both read the residual as it enters the block: the stream that mix() gives is then feed()'s of this block alone.
  bool parallel = false;

  static Block make(const BlockBlueprint& blueprint, const LayerBlueprint& layer);
  // `layer`: which block of the model this is; `state`: this layer's, or null (nn/mixer.h).
  Stream forward(const Stream& in, const Call& call, int64_t layer, LayerState* state) const;
  // Its two halves, one after the other.
  Stream mix(const Stream& in, const Call& call, int64_t layer, LayerState* state) const;
  Stream feed(const Stream& in, const Call& call, int64_t layer) const;
  // Of mix(), what later tokens will read (Mixer::remember()): the stream passes the block by.
  void remember(const Stream& in, const Call& call, int64_t layer, LayerState* state) const;
  bool exits() const { return exit_norm.gain != nullptr; }
  void visit(const Place& at, Visitor& visitor);
};

}  // namespace hone
