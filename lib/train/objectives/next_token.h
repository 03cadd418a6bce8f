// Prediction of the token that follows.
#pragma once

#include "train/objectives/objective.h"

namespace hone {

// The term "next_token": mean cross-entropy over the scored tokens, nats.
std::unique_ptr<Objective> next_token_objective(const ObjectiveSettings& settings);

}  // namespace hone
