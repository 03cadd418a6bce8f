// A mixture of experts: a router sends each token to a few of many feed-forwards (Shazeer et al., arXiv 1701.06538).
#pragma once

#include <optional>

#include "nn/feed_forward.h"
#include "ops/expert_ranks.h"

namespace hone {

// y = shared(x) + sum over the chosen e of gate_e * expert_e(x), with shared(x) times sigmoid(w x) where it has a gate.
// The router computes in f32 whatever the activations are. Experts may lie with several ranks (ops/expert_ranks.h); all
// else is with each.
class Mixture : public FeedForward {
 public:
  // Selection bias 0, all else unset. Of `experts` that other ranks have, the values are promised.
  Mixture(const BlockBlueprint& blueprint, const LayerBlueprint& layer, const Share& experts = {});

  // Throws RouterError naming the layer where a logit is not finite: on all ranks that have its experts, where it is so
  // on one.
  FeedForwardOutput forward(const Var& x, const Call& call, int64_t layer) const override;
  void visit(const Place& at, Visitor& visitor) override;
  // Loss-free balancing (Wang et al., arXiv 2408.15664, algorithm 1): bias_e += rate * sign(mean load - load_e).
  void balance(const std::vector<int64_t>& load, double rate) override;

 private:
  Var shared(const Var& x, const Call& call, int64_t layer) const;  // empty: there are none
  ops::Routing route(const Var& x, const Call& call, int64_t layer) const;
  Var process(const Var& rows, const Call& call, int64_t layer,
              const std::shared_ptr<const ops::RoutePlan>& plan) const;
  Var process_by_ranks(const Var& x, const Call& call, int64_t layer, const std::shared_ptr<const ops::RoutePlan>& plan,
                       const std::shared_ptr<const ops::ExpertRoute>& ways) const;

  RouterKind kind_;
  int64_t top_k_;
  bool normalized_gates_;
  std::shared_ptr<Parameter> router_;       // [experts, dim]
  std::shared_ptr<Parameter> router_bias_;  // [experts], affects the choice only; moved by balance(), not by gradients
  std::vector<DenseFeedForward> experts_;
  Share share_;                             // of them that is here
  std::optional<DenseFeedForward> shared_;  // all shared experts as one of their width together
  std::shared_ptr<Parameter> shared_gate_;  // [1, dim]; null: none
};

}  // namespace hone
