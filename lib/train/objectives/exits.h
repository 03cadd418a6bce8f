// Prediction of the token that follows, from early exits (LayerSkip, arXiv 2404.16710, section 4.2).
#pragma once

#include <cstdint>
#include <vector>

#include "train/objectives/objective.h"
#include "train/objectives/settings.h"

namespace hone {

// For each exit of the call the term "exit_DEPTH": mean cross-entropy over the scored tokens, nats. Weights grow with
// depth as 1 + 2 + … + depth (equation 4 there, counted from 1), and are those of the settings together.
std::unique_ptr<Objective> exits_objective(const ObjectiveSettings& settings);

// Those of a model's exits that batch number `batch` of a run trains: all, one in turn, or none.
std::vector<int64_t> exits_trained(const ExitLossSettings& settings, const std::vector<int64_t>& exits, int64_t batch);

}  // namespace hone
