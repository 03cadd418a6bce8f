// Prediction of the token that follows.
#pragma once

#include "train/objectives/objective.h"

namespace hone {

// The term "next_token": mean cross-entropy over the scored tokens, nats; and "z" where the settings give it a weight:
// mean of (log Z)^2 over the same tokens, Z the sum of the exponentials of the head's logits.
std::unique_ptr<Objective> next_token_objective(const ObjectiveSettings& settings);

}  // namespace hone
