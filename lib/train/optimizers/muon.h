// Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): the momentum of a matrix of the blocks is made
// orthogonal before it is applied. Everything else follows AdamW, with a rate of its own.
#pragma once

#include "model/config.h"
#include "train/optimizers/adamw.h"

namespace hone {

// About the nearest matrix with all singular values 1, which are from 0.85 to 1.13 here: five odd polynomials of degree
// 5 (Amsel et al., "The Polar Express", arXiv 2505.16932, algorithm 1). x [m, n] f32 is replaced. Products run in
// `type`. Singular values below a thousandth of the norm are left smaller.
void orthogonalize(kernels::View x, DType type);
// The same of each `block` rows of x, or columns where it is wider than tall, by themselves; 0: of all together (Khaled
// et al., "MuonBP", arXiv 2510.16981; there every few steps of all). That is less work: it grows with the square of the
// smaller side of what is made orthogonal.
void orthogonalize_blocks(kernels::View x, int64_t block, DType type);

inline constexpr OptimizerNumber muon_momentum = {"muon_momentum", "Muon: memory of the gradient", 0.95, 0, 0.9999999};
inline constexpr OptimizerNumber muon_block = {"muon_block",
                                               "Muon: make so many rows of a matrix orthogonal together, or columns of "
                                               "one that is wider than tall, which is less work; 0: all",
                                               0,
                                               0,
                                               1 << 20,
                                               true};
inline constexpr const OptimizerNumber* muon_numbers[] = {&muon_momentum, &muon_block, &adamw_beta1, &adamw_beta2};

// State "momentum" for the matrices of blocks, each part of a fused one by itself, AdamW's for all else. The update of
// an [m, n] matrix has the deviation of AdamW's, 0.2 sqrt(max(m, n)) times an orthogonal matrix (Liu et al., arXiv
// 2502.16982, equation 4), so that rates and decay carry over.
std::shared_ptr<const UpdateRule> muon_rule(const ParameterInfo& parameter, const Config& config,
                                            const OptimizerSettings& settings);

}  // namespace hone
