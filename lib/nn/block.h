// One layer: norm, mixer, norm, feed-forward, around a residual stream in f32. A layer without one of the halves has
// neither that nor its norm. With a router of depth only some tokens go through: the stream of the others passes it by.
#pragma once

#include "nn/depth_router.h"
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
  std::unique_ptr<DepthRouter> router;        // null: all tokens go through
  // Both read the residual as it enters the block: the stream that mix() gives is then feed()'s of this block alone.
  bool parallel = false;

  // Of several ranks that divide it: with the part of one of them.
  static Block make(const BlockBlueprint& blueprint, const LayerBlueprint& layer, const Shares& shares = {});
  // `layer`: which block of the model this is; `state`: this layer's, or null (nn/mixer.h).
  Stream forward(const Stream& in, const Call& call, int64_t layer, LayerState* state) const;
  // Its two halves, one after the other, for all rows of the call: of a block without a router.
  Stream mix(const Stream& in, const Call& call, int64_t layer, LayerState* state) const;
  Stream feed(const Stream& in, const Call& call, int64_t layer) const;
  // Of mix(), what later tokens will read (Mixer::remember()): the stream passes the block by.
  void remember(const Stream& in, const Call& call, int64_t layer, LayerState* state) const;
  // Which of the halves there are. A block with a router runs as a whole, and counts as a second half alone.
  bool has(bool second) const { return second ? feed_forward || (router && mixer) : mixer && !router; }
  std::unique_ptr<LayerState> make_state(const StateShape& shape) const;
  double state_bytes(const StateShape& shape) const;  // that make_state() would take
  bool exits() const { return exit_norm.gain != nullptr; }
  void visit(const Place& at, Visitor& visitor);

 private:
  Stream pass_some(const Stream& in, const Call& call, int64_t layer, DepthState* state) const;
};

}  // namespace hone
