// The feed-forward half of a block: dense, or a mixture of experts.
#pragma once

#include <memory>

#include "nn/linear.h"

namespace hone {

struct FeedForwardOutput {
  Var y;                        // [rows, dim]
  std::vector<LossTerm> terms;  // to be added to what training minimizes
};

class FeedForward {
 public:
  virtual ~FeedForward() = default;
  virtual FeedForwardOutput forward(const Var& x, const Call& call, int64_t layer) const = 0;  // x [rows, dim]
  virtual void visit(const Place& at, Visitor& visitor) = 0;
  // Moves the choice of experts towards those with less than the mean of `load` (nn/mixture.h). A dense one has no
  // choice.
  virtual void balance(const std::vector<int64_t>& /*load*/, double /*rate*/) {}

  // The kind that the layer's blueprint asks for; of several ranks that divide it, the part of one.
  static std::unique_ptr<FeedForward> make(const BlockBlueprint& blueprint, const LayerBlueprint& layer,
                                           const Shares& shares = {});
};

// An activation between two linear layers.
class DenseFeedForward : public FeedForward {
 public:
  // `others`: the kinds of rows beside text that have weights of their own.
  DenseFeedForward(const BlockBlueprint& blueprint, int64_t width, const std::vector<std::string>& others = {},
                   const Share& share = {});
  FeedForwardOutput forward(const Var& x, const Call& call, int64_t layer) const override;
  void visit(const Place& at, Visitor& visitor) override;

  ActivationKind activation;
  Linear up;    // of a gated one: gates and values in one, [2 * width, dim]; else [width, dim]
  Linear down;  // [dim, width]
};

}  // namespace hone
