// AdamW (Loshchilov & Hutter, arXiv 1711.05101): the same rule for every parameter.
#pragma once

#include "train/optimizers/update_rule.h"

namespace hone {

// State "m" and "v": the moving means of the gradient and of its square, in the form of settings.moments.
std::shared_ptr<const UpdateRule> adamw_rule(const ParameterInfo& parameter, const Config& config,
                                             const OptimizerSettings& settings);

}  // namespace hone
