// What the inputs of a layer say of the error in its outputs: the matrix behind second-order pruning and rounding.
#pragma once

#include <string>
#include <vector>

#include "compress/methods/method_number.h"
#include "compress/statistics.h"
#include "tensor/bitmask.h"

namespace hone {

// E[x x^T] over the calibration tokens, half the Hessian of the mean squared output error in each row of weights, with
// a constant added to its diagonal: a part of the diagonal's mean (arXiv 2210.17323, section 3.3), times columns per
// token where fewer tokens came than there are columns, so that what few tokens cannot tell stays as it was.
struct Curvature {
  Tensor matrix;       // f32 [cols, cols], positive definite
  double damping = 0;  // what was added to the diagonal
};

// That part, as the number of a method.
inline constexpr MethodNumber dampening_number = {
    "DAMPENING", "of the inputs' mean square so much is added to each, so that what few tokens tell weighs less", 0.01,
    1e-4, 10};

// Of null inputs, the identity: all inputs alike. `dampening`: that part; none: the usual one. Throws Error(input),
// naming `where`, for inputs that were not finite.
Curvature curvature_of(const InputStatistics* inputs, int64_t cols, const std::string& where,
                       std::optional<double> dampening = {});

// The mean squared error of the outputs, sum over rows of (w - v) C (w - v)^T, and of w alone; f32 [rows, cols].
struct OutputError {
  double squared_error = 0, squared_norm = 0;
  double relative() const { return squared_norm > 0 ? squared_error / squared_norm : 0; }
};
std::vector<double> row_errors(const Tensor& w, const Tensor& v, const Curvature& curvature);  // squared, of each row
OutputError output_error(const Tensor& w, const Tensor& v, const Curvature& curvature);

// A copy that is 0 where the mask (may be empty) is.
Tensor masked(const Tensor& weight, const Bitmask& mask);

}  // namespace hone
