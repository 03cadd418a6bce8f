// `eval` of the exits of a model: what they predict, what a threshold gives, and thresholds with a promise.
#pragma once

#include "cli/eval_options.h"

namespace hone::cli {

// The whole of eval with --exits, --exit or --calibrate-exits. The exit status.
int eval_exits(const EvalOptions& options, const Common& common);

}  // namespace hone::cli
