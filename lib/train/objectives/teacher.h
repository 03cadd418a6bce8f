// Predictions, and streams behind layers, as a teacher has them (Hinton et al., arXiv 1503.02531; Romero et al.,
// 1412.6550).
#pragma once

#include "train/objectives/objective.h"

namespace hone {

// The terms "teacher" (ops/divergence.h), where its weight is above 0, and "teacher_hidden", where that weight is: one
// for each layer i, against the teacher's layer i, whose weights sum to it. Null without a teacher.
std::unique_ptr<Objective> teacher_objective(const ObjectiveSettings& settings);

}  // namespace hone
