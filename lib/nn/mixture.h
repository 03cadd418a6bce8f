// A mixture of experts: a router sends each token to a few of many feed-forwards (Shazeer et al., arXiv 1701.06538).
#pragma once

#include <optional>

#include "nn/feed_forward.h"
#include "ops/mixture.h"

namespace hone {

// y = shared(x) + sum over the chosen e of gate_e * expert_e(x). The router computes in f32 whatever the activations
// are.
class Mixture : public FeedForward {
 public:
  Mixture(const BlockBlueprint& blueprint, const LayerBlueprint& layer);  // selection bias 0, all else unset

  // Throws RouterError naming the layer where a logit is not finite.
  FeedForwardOutput forward(const Var& x, const Call& call, int64_t layer) const override;
  void visit(const Place& at, Visitor& visitor) override;
  // Loss-free balancing (Wang et al., arXiv 2408.15664, algorithm 1): bias_e += rate * sign(mean load - load_e).
  void balance(const std::vector<int64_t>& load, double rate) override;

 private:
  ops::Routing route(const Var& x, const Call& call, int64_t layer) const;

  RouterKind kind_;
  int64_t top_k_;
  std::shared_ptr<Parameter> router_;       // [experts, dim]
  std::shared_ptr<Parameter> router_bias_;  // [experts], affects the choice only; moved by balance(), not by gradients
  std::vector<DenseFeedForward> experts_;
  std::optional<DenseFeedForward> shared_;  // all shared experts as one of their width together
};

}  // namespace hone
