// `eval` of what a model finds: images by sounds, sounds by images.
#pragma once

#include "cli/eval_options.h"

namespace hone::cli {

// The whole of eval with --retrieval. The exit status.
int eval_retrieval(const EvalOptions& options, const Common& common);

}  // namespace hone::cli
