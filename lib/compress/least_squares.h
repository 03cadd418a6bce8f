// The best values of the weights that a mask keeps.
#pragma once

#include "compress/curvature.h"

namespace hone {

struct LeastSquaresOptions {
  int most_iterations = 200;
  double tolerance = 1e-3;  // of the preconditioned gradient's norm, a part of what it was
};

// For each row w of `weight` the v, zero outside the mask, with the least (w - v) C (w - v)^T: conjugate gradients on
// all rows at once (Meng et al., arXiv 2406.07831, algorithm 2), so that an iteration is one product of [rows, cols]
// with C, preconditioned by C's diagonal, from `start` (f32 [rows, cols], zero outside the mask) on. It never leaves
// more error than `start`. A row that has converged stays as it is.
Tensor least_squares(const Tensor& weight, const Tensor& start, const Bitmask& mask, const Curvature& curvature,
                     const LeastSquaresOptions& options = {});

}  // namespace hone
