// AdamW (Loshchilov & Hutter, arXiv 1711.05101): the same rule for every parameter.
#pragma once

#include "train/optimizers/update_rule.h"

namespace hone {

inline constexpr OptimizerNumber adamw_beta1 = {"beta1", "AdamW: memory of the gradient", 0.9, 0, 0.9999999};
inline constexpr OptimizerNumber adamw_beta2 = {"beta2", "AdamW: memory of its square", 0.95, 0, 0.9999999};
inline constexpr const OptimizerNumber* adamw_numbers[] = {&adamw_beta1, &adamw_beta2};

// State "m" and "v": the moving means of the gradient and of its square, in the form of settings.moments.
std::shared_ptr<const UpdateRule> adamw_rule(const ParameterInfo& parameter, const Config& config,
                                             const OptimizerSettings& settings);

}  // namespace hone
