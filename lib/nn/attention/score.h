// Kinds of scores by the names that a layer's blueprint has for them: "softcap:50", "alibi".
#pragma once

#include <string>

#include "kernels/attention/score.h"

namespace hone {

// Empty: plain. Which heads a call has is left to say. Throws Error(usage) for a name of no kind, or with a number that
// it cannot have.
kernels::ScoreRule score_rule(const std::string& name);

bool score_by_head(const std::string& name);  // ScoreKindInfo::by_head; throws as score_rule()

std::string softcap_score(float cap);  // its name

}  // namespace hone
