// Mixture of depths (Raposo et al., arXiv 2404.02258): of each sequence some tokens go through a layer, the others pass
// it by in the residual stream.
//
// While a model trains, those go through whose score is among the best of their sequence. That looks ahead. Everywhere
// else a token is let through where a predictor takes it for one of these: a function of its own row alone, so that
// prompts, chunks of them and single steps choose alike.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "nn/linear.h"
#include "nn/parameters.h"
#include "nn/state.h"
#include "ops/depth.h"

namespace hone {

// What a layer remembers of the tokens that went through it, counted without the others, and which they were.
class DepthState : public LayerState {
 public:
  DepthState(std::unique_ptr<LayerState> inner, int64_t sequences);
  // Of what stands around: the inner state stands in no pages, since these hold tokens by their place in the sequence.
  static StateShape inner_shape(StateShape shape);

  LayerState* inner() const { return inner_.get(); }
  // Tokens before `position` that went through; what was noted from there on is forgotten.
  int64_t before(int64_t sequence, int64_t position);
  void add(int64_t sequence, int32_t position);  // one more, behind all others

  int64_t bytes() const override { return inner_->bytes(); }
  int64_t earliest(int64_t sequence, int64_t length) const override;
  void truncate(int64_t sequence, int64_t length, int64_t tokens) override;
  bool keeps() const override { return true; }
  std::vector<Tensor> keep(int64_t sequence, int64_t length) const override;
  void restore(int64_t sequence, int64_t length, const std::vector<Tensor>& kept) override;

 private:
  std::vector<int32_t>& of(int64_t sequence) { return positions_[static_cast<size_t>(sequence)]; }
  int64_t count(int64_t sequence, int64_t length) const;
  void cut(int64_t sequence, int64_t stay);

  std::unique_ptr<LayerState> inner_;
  std::vector<std::vector<int32_t>> positions_;  // [sequence]: of the tokens that went through, ascending
  std::vector<size_t> most_;  // [sequence]: the most that there have been: a ring has lost what so many push out
};

class DepthRouter {
 public:
  DepthRouter(const BlockBlueprint& blueprint, const LayerBlueprint& layer);  // biases 0, all else unset

  struct Choice {
    std::shared_ptr<const ops::RoutePlan> plan;  // of the rows that go through; there may be none
    // Of these rows alone: spans count the tokens that go through, and rows keep their positions. With a state they are
    // attended to as steps, whose bits do not depend on how a sequence was cut into calls.
    Call call;
    Var gates;                    // [rows, 1]
    std::vector<LossTerm> terms;  // the predictor's, "depth_predictor", where the call asks for the best
  };
  // `y`: rows of norm. Throws RouterError naming the layer where a score is not finite.
  Choice choose(const Var& y, const Call& call, int64_t layer, DepthState* state) const;

  void visit(const Place& at, Visitor& visitor);
  double fraction() const { return fraction_; }
  void set_fraction(double fraction) { fraction_ = fraction; }

  Norm norm;  // of the stream, before the router

 private:
  ops::DepthPredictor predictor() const { return {*hidden_, *hidden_bias_, *output_, *output_bias_}; }

  double fraction_;
  std::shared_ptr<Parameter> weight_;                                       // [1, dim]
  std::shared_ptr<Parameter> hidden_, hidden_bias_, output_, output_bias_;  // ops::DepthPredictor
};

inline constexpr int64_t depth_predictor_width = 32;  // hidden units

// Of so many tokens of a sequence, those that are let through while a model trains: the fraction, at least one.
int64_t passing_tokens(int64_t tokens, double fraction);
// 1 for each score that is among so many best, else 0; the first of equals wins.
std::vector<uint8_t> best_of(std::span<const float> scores, double fraction);

}  // namespace hone
