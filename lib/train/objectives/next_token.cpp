#include "train/objectives/next_token.h"

namespace hone {
namespace {

class NextToken : public Objective {
 public:
  std::vector<LossTerm> terms(const ObjectiveInput& in) const override {
    return {in.model.loss(in.hidden, in.targets, in.weight, in.of_rows).term};
  }
};

}  // namespace

std::shared_ptr<const Objective> next_token_objective(const ObjectiveSettings&) {
  return std::make_shared<NextToken>();
}

}  // namespace hone
