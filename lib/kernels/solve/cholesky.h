// Cholesky factors and inverses of symmetric positive definite matrices, f32: panels of some columns by Eigen, all else
// as matrix products (kernels/gemm).
#pragma once

#include "kernels/view.h"

namespace hone::kernels {

// a [n, n] f32 becomes L, lower triangular with a = L L^T; what lies above the diagonal becomes 0. False where `a` is
// not positive definite in f32 arithmetic; what it holds then is of no use.
bool cholesky(View a);

// L [n, n], lower triangular without a 0 on the diagonal, becomes its inverse, which is lower triangular too.
void invert_lower(View l);

// a [n, n], symmetric, becomes its inverse. False where it is not positive definite.
bool invert_positive(View a);

}  // namespace hone::kernels
