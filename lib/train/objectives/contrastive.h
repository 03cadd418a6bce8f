// Two parts of an example, as an image and a sound of the same thing, find each other among those of other examples.
#pragma once

#include <memory>

#include "train/objectives/objective.h"

namespace hone {

// The term "contrastive" (ops/contrastive.h) over the pairs of the batch, between the means of the hidden states of
// their parts. A batch with fewer than two pairs has no such term.
std::unique_ptr<Objective> contrastive_objective(const ObjectiveSettings& settings);

}  // namespace hone
