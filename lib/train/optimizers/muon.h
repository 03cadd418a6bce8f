// Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): the momentum of a matrix of the blocks is made
// orthogonal before it is applied. Everything else follows AdamW, with a rate of its own.
#pragma once

#include "model/config.h"
#include "train/optimizers/update_rule.h"

namespace hone {

// About the nearest matrix with all singular values 1, which are from 0.85 to 1.13 here: five odd polynomials of degree
// 5 (Amsel et al., "The Polar Express", arXiv 2505.16932, algorithm 1). x [m, n] f32 is replaced. Products run in
// `type`. Singular values below a thousandth of the norm are left smaller.
void orthogonalize(const Tensor& x, DType type);

// The rows of the matrices that one weight of a block holds: queries, keys and values; gates and values. They add up to
// `rows`.
std::vector<int64_t> fused_parts(const ParameterInfo& parameter, const Config& config, int64_t rows);

// State "momentum" for the matrices of blocks, AdamW's for all else. The update of an [m, n] matrix has the deviation
// of AdamW's, 0.2 sqrt(max(m, n)) times an orthogonal matrix (Liu et al., arXiv 2502.16982, equation 4), so that rates
// and decay carry over.
std::shared_ptr<const UpdateRule> muon_rule(const ParameterInfo& parameter, const Config& config,
                                            const OptimizerSettings& settings);

}  // namespace hone
