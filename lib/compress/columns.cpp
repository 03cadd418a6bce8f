#include "compress/columns.h"

#include <utility>

#include "base/error.h"
#include "kernels/gemm/gemm.h"
#include "kernels/solve/cholesky.h"

namespace hone {
namespace {

// Both rows and columns in the other order.
void reverse(const Tensor& square) {
  std::reverse(square.data<float>(), square.data<float>() + square.size());
}

}  // namespace

CompensatedColumns::CompensatedColumns(const Tensor& weight, const Curvature& curvature, const std::string& where)
    : rows_(weight.dim(0)), cols_(weight.dim(1)), weight_(weight.clone()), factor_(curvature.matrix.clone()) {
  // C = U U^T with U upper triangular is the Cholesky factor of C in reverse order; C^-1 = U^-T U^-1, so that R = U^-1.
  reverse(factor_);
  if (!kernels::cholesky(factor_.view()))
    throw input_error("{}: what enters this layer is too alike to be told apart; give more calibration text", where);
  kernels::invert_lower(factor_.view());
  reverse(factor_);
}

void CompensatedColumns::spread(int64_t first, int64_t count) {
  const int64_t after = first + count, rest = cols_ - after;
  if (rest > 0)
    kernels::gemm(errors_.view(), false, factor_.rows(first, count).columns(after, rest), false,
                  weight_.columns(after, rest), true);
}

}  // namespace hone
