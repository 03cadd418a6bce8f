#include "train/objectives/contrastive.h"

#include "base/error.h"
#include "train/objectives/settings.h"

namespace hone {
namespace {

class Contrastive : public Objective {
 public:
  explicit Contrastive(const ContrastiveSettings& settings) : s_(settings) {}

  std::vector<LossTerm> terms(const ObjectiveInput& in) override {
    if (in.left.size() < 2) return {};
    const auto& scale = in.model.similarity_scale();
    if (!scale) throw internal_error("a contrastive loss of a model that aligns nothing");
    return {{"contrastive", ops::contrastive(in.hidden, in.left, in.right, *scale, s_.loss), s_.weight * in.weight}};
  }

 private:
  ContrastiveSettings s_;
};

}  // namespace

std::unique_ptr<Objective> contrastive_objective(const ObjectiveSettings& settings) {
  if (settings.contrastive.weight <= 0) return nullptr;
  return std::make_unique<Contrastive>(settings.contrastive);
}

}  // namespace hone
