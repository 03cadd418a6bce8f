#include "train/objectives/exits.h"

#include <fmt/format.h>

namespace hone {
namespace {

float share(int64_t depth) {
  return static_cast<float>(depth) * static_cast<float>(depth + 1) / 2;
}

class Exits : public Objective {
 public:
  explicit Exits(float weight) : weight_(weight) {}

  std::vector<LossTerm> terms(const ObjectiveInput& in) override {
    float shares = 0;
    for (const ExitOutput& exit : in.exits) shares += share(exit.depth);
    std::vector<LossTerm> terms;
    for (const ExitOutput& exit : in.exits) {
      LossTerm term =
          in.model.loss(exit.hidden, in.targets, {in.weight * weight_ * share(exit.depth) / shares, 0, in.of_rows})
              .term;
      exit.hidden.drop_value();  // its gradient stands already
      term.name = fmt::format("exit_{}", exit.depth);
      term.exit = exit.depth;
      terms.push_back(std::move(term));
    }
    return terms;
  }

 private:
  float weight_;
};

}  // namespace

std::unique_ptr<Objective> exits_objective(const ObjectiveSettings& settings) {
  if (settings.exits.weight <= 0) return nullptr;
  return std::make_unique<Exits>(settings.exits.weight);
}

std::vector<int64_t> exits_trained(const ExitLossSettings& settings, const std::vector<int64_t>& exits, int64_t batch) {
  if (settings.weight <= 0 || exits.empty()) return {};
  if (!settings.rotate) return exits;
  return {exits[static_cast<size_t>(batch) % exits.size()]};
}

}  // namespace hone
