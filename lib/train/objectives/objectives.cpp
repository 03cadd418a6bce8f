#include "train/objectives/contrastive.h"
#include "train/objectives/exits.h"
#include "train/objectives/next_token.h"
#include "train/objectives/objective.h"
#include "train/objectives/settings.h"
#include "train/objectives/teacher.h"

namespace hone {
namespace {

constexpr ObjectiveKind rows[] = {
    {"next_token", next_token_objective},
    {"exits", exits_objective},
    {"teacher", teacher_objective},
    {"contrastive", contrastive_objective},
};

}  // namespace

std::span<const ObjectiveKind> objective_kinds() {
  return rows;
}

std::vector<std::unique_ptr<Objective>> objectives_of(const ObjectiveSettings& settings) {
  std::vector<std::unique_ptr<Objective>> all;
  for (const ObjectiveKind& kind : rows)
    if (auto objective = kind.make(settings)) all.push_back(std::move(objective));
  return all;
}

}  // namespace hone
