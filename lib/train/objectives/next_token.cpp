#include "train/objectives/next_token.h"

#include "train/objectives/settings.h"

namespace hone {
namespace {

class NextToken : public Objective {
 public:
  explicit NextToken(float z_weight) : z_weight_(z_weight) {}

  std::vector<LossTerm> terms(const ObjectiveInput& in) override {
    ops::TokenLosses losses = in.model.loss(in.hidden, in.targets, {in.weight, z_weight_, in.of_rows});
    if (z_weight_ == 0) return {losses.term};
    return {losses.term, losses.z_term};
  }

 private:
  float z_weight_;
};

}  // namespace

std::unique_ptr<Objective> next_token_objective(const ObjectiveSettings& settings) {
  return std::make_unique<NextToken>(settings.z_weight);
}

}  // namespace hone
