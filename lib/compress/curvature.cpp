#include "compress/curvature.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "kernels/gemm/gemm.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"

namespace hone {
namespace {

// Sums of a * b over each row.
std::vector<double> dots(const Tensor& a, const Tensor& b) {
  const int64_t rows = a.dim(0), cols = a.dim(1);
  std::vector<double> sums(static_cast<size_t>(rows));
  kernels::parallel_for(rows, kernels::row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t i = r * cols; i < (r + 1) * cols; ++i)
        sums[static_cast<size_t>(r)] +=
            static_cast<double>(a.data<float>()[i]) * static_cast<double>(b.data<float>()[i]);
  });
  return sums;
}

double sum_of(const std::vector<double>& numbers) {
  double sum = 0;
  for (const double x : numbers) sum += x;
  return sum;
}

}  // namespace

Curvature curvature_of(const InputStatistics* inputs, int64_t cols, const std::string& where,
                       std::optional<double> dampening) {
  Curvature curvature{Tensor::zeros({cols, cols}), 0};
  float* c = curvature.matrix.data<float>();
  if (!inputs) {
    for (int64_t i = 0; i < cols; ++i) c[i * cols + i] = 1;
    return curvature;
  }
  const Tensor& sums = inputs->get<GramMatrix>().sums();
  if (!kernels::all_finite(sums.view()))
    throw input_error(
        "{}: what enters this layer is not finite numbers; the calibration run has overflowed or the model is damaged",
        where);
  const auto tokens = static_cast<double>(std::max<int64_t>(inputs->tokens(), 1));
  const float each = static_cast<float>(1 / tokens);
  double diagonal = 0;
  for (int64_t i = 0; i < cols * cols; ++i) c[i] = sums.data<float>()[i] * each;
  for (int64_t i = 0; i < cols; ++i) diagonal += static_cast<double>(c[i * cols + i]);
  const double mean = diagonal > 0 ? diagonal / static_cast<double>(cols) : 1;
  curvature.damping =
      dampening.value_or(dampening_number.usual) * mean * std::max(1.0, static_cast<double>(cols) / tokens);
  for (int64_t i = 0; i < cols; ++i) c[i * cols + i] += static_cast<float>(curvature.damping);
  return curvature;
}

std::vector<double> row_errors(const Tensor& w, const Tensor& v, const Curvature& curvature) {
  Tensor difference = Tensor::empty(w.shape()), product = Tensor::empty(w.shape());
  for (int64_t i = 0; i < w.size(); ++i) difference.data<float>()[i] = w.data<float>()[i] - v.data<float>()[i];
  kernels::gemm(difference.view(), false, curvature.matrix.view(), false, product.view());
  return dots(difference, product);
}

OutputError output_error(const Tensor& w, const Tensor& v, const Curvature& curvature) {
  Tensor product = Tensor::empty(w.shape());
  kernels::gemm(w.view(), false, curvature.matrix.view(), false, product.view());
  return {sum_of(row_errors(w, v, curvature)), sum_of(dots(w, product))};
}

Tensor masked(const Tensor& weight, const Bitmask& mask) {
  Tensor copy = weight.clone();
  if (mask) kernels::apply_mask(copy.view(), mask.data());
  return copy;
}

}  // namespace hone
