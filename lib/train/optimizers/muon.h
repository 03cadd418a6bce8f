// Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): the momentum of a matrix of the blocks is made
// orthogonal before it is applied. Everything else follows AdamW, with a rate of its own.
#pragma once

#include "model/config.h"
#include "train/optimizers/adamw.h"

namespace hone {

// About the nearest matrix with all singular values 1, which are from 0.85 to 1.13 here: five odd polynomials of degree
// 5 (Amsel et al., "The Polar Express", arXiv 2505.16932, algorithm 1). x [m, n] f32 is replaced. Products run in
// `type`. Singular values below a thousandth of the norm are left smaller.
void orthogonalize(const Tensor& x, DType type);

inline constexpr OptimizerNumber muon_momentum = {"muon_momentum", "Muon: memory of the gradient", 0.95, 0, 0.9999999};
inline constexpr const OptimizerNumber* muon_numbers[] = {&muon_momentum, &adamw_beta1, &adamw_beta2};

// State "momentum" for the matrices of blocks, each part of a fused one by itself, AdamW's for all else. The update of
// an [m, n] matrix has the deviation of AdamW's, 0.2 sqrt(max(m, n)) times an orthogonal matrix (Liu et al., arXiv
// 2502.16982, equation 4), so that rates and decay carry over.
std::shared_ptr<const UpdateRule> muon_rule(const ParameterInfo& parameter, const Config& config,
                                            const OptimizerSettings& settings);

}  // namespace hone
