// Representations of parts that belong together, drawn to each other and away from those of other pairs.
#pragma once

#include <cstdint>
#include <span>

#include "autograd/autograd.h"

namespace hone::ops {

// Consecutive rows, of which the mean stands for a part.
struct PooledRows {
  int64_t first = 0, count = 1;
};

// f32 [parts, dim]: the mean of each part's rows of x [rows, dim] (f32 or bf16), of length 1.
Tensor pooled(const Tensor& x, std::span<const PooledRows> parts);

// With u_i and v_i the pooled parts of pair i of n, and S_ij = u_i · v_j:
enum class ContrastiveLoss {
  // Symmetric InfoNCE (CLIP, Radford et al., arXiv 2103.00020, figure 3): the mean over i of the cross-entropies of v_i
  // among all v, and of u_i among all u, by logits s S; half of their sum.
  infonce,
  // Each of the n^2 pairs by itself (SigLIP, Zhai et al., arXiv 2303.15343, algorithm 1): -1/n times the sum of
  // log sigmoid(z_ij (s S_ij + b)), z_ij 1 of those that belong together and -1 of the others.
  siglip,
};

// Where a logarithm of s and an offset b begin: 1 / 0.07 for InfoNCE; 10 and -10 for SigLIP. f32 [2].
Tensor first_similarity_scale(ContrastiveLoss loss);
// s is exp(the first number), at most this.
inline constexpr float most_similarity_scale = 100;

// [1] f32: the loss. `scale` [2]: log s and b, of which InfoNCE has no use for the second. Two pairs or more, as many
// parts on both sides; throws Error(internal) otherwise.
Var contrastive(const Var& x, std::span<const PooledRows> left, std::span<const PooledRows> right, Parameter& scale,
                ContrastiveLoss loss);

}  // namespace hone::ops
