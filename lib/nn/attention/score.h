// Kinds of scores by the names that a layer's blueprint has for them: "softcap:50".
#pragma once

#include <string>

#include "kernels/attention/score.h"

namespace hone {

// Empty: plain. Throws Error(usage) for a name of no kind, or with a number that it cannot have.
kernels::ScoreRule score_rule(const std::string& name);

std::string softcap_score(float cap);  // its name

}  // namespace hone
