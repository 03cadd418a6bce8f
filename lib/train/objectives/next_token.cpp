#include "train/objectives/next_token.h"

namespace hone {
namespace {

class NextToken : public Objective {
 public:
  std::vector<LossTerm> terms(const ObjectiveInput& in) override {
    return {in.model.loss(in.hidden, in.targets, in.weight).term};
  }
};

}  // namespace

std::unique_ptr<Objective> next_token_objective(const ObjectiveSettings&) {
  return std::make_unique<NextToken>();
}

}  // namespace hone
