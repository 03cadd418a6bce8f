#include "compress/least_squares.h"

#include <algorithm>
#include <vector>

#include "base/stop.h"
#include "kernels/gemm/gemm.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"

namespace hone {
namespace {

double dot(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// Conjugate gradients of every row, side by side. `residual` is the negative gradient: (w - v) C where the mask keeps.
class Rows {
 public:
  Rows(const Tensor& weight, const Tensor& start, const Bitmask& mask, const Curvature& curvature)
      : mask_(mask),
        c_(curvature.matrix),
        rows_(weight.dim(0)),
        cols_(weight.dim(1)),
        value_(start.clone()),
        residual_(Tensor::empty(weight.shape())),
        direction_(Tensor::zeros(weight.shape())),
        product_(Tensor::empty(weight.shape())),
        inverse_diagonal_(static_cast<size_t>(cols_)),
        square_(static_cast<size_t>(rows_)),
        first_(square_) {
    for (int64_t i = 0; i < cols_; ++i) inverse_diagonal_[static_cast<size_t>(i)] = 1 / c_.data<float>()[i * cols_ + i];
    for (int64_t i = 0; i < weight.size(); ++i)
      direction_.data<float>()[i] = weight.data<float>()[i] - value_.data<float>()[i];
    kernels::gemm(direction_.view(), false, c_.view(), false, residual_.view());
    kernels::apply_mask(residual_.view(), mask_.data());
    each_row([&](int64_t r) { first_[static_cast<size_t>(r)] = turn(r, true); });
  }

  // True once every row's gradient is small enough.
  bool step(double tolerance) {
    kernels::gemm(direction_.view(), false, c_.view(), false, product_.view());
    kernels::apply_mask(product_.view(), mask_.data());
    std::vector<uint8_t> done(static_cast<size_t>(rows_));
    each_row([&](int64_t r) { done[static_cast<size_t>(r)] = advance(r, tolerance * tolerance); });
    return std::all_of(done.begin(), done.end(), [](uint8_t d) { return d; });
  }

  const Tensor& value() const { return value_; }

 private:
  float* row(const Tensor& t, int64_t r) const { return t.data<float>() + r * cols_; }

  template <class F>
  void each_row(F&& f) {
    kernels::parallel_for(rows_, kernels::row_grain(8 * cols_), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) f(r);
    });
  }

  // The next direction; returns the squared gradient.
  double turn(int64_t r, bool first) {
    const float* residual = row(residual_, r);
    float* direction = row(direction_, r);
    double square = 0;
    for (int64_t c = 0; c < cols_; ++c)
      square += static_cast<double>(residual[c]) *
                static_cast<double>(residual[c] * inverse_diagonal_[static_cast<size_t>(c)]);
    const double before = square_[static_cast<size_t>(r)];
    const float keep = first || !(before > 0) ? 0 : static_cast<float>(square / before);
    for (int64_t c = 0; c < cols_; ++c)
      direction[c] = residual[c] * inverse_diagonal_[static_cast<size_t>(c)] + keep * direction[c];
    return square_[static_cast<size_t>(r)] = square;
  }

  bool advance(int64_t r, double part) {
    const auto i = static_cast<size_t>(r);
    if (square_[i] <= part * first_[i]) {
      std::fill_n(row(direction_, r), cols_, 0.0f);
      return true;
    }
    const float* product = row(product_, r);
    float *direction = row(direction_, r), *value = row(value_, r), *residual = row(residual_, r);
    const double bend = dot(direction, product, cols_);
    if (!(bend > 0)) return true;
    const float length = static_cast<float>(square_[i] / bend);
    for (int64_t c = 0; c < cols_; ++c) {
      value[c] += length * direction[c];
      residual[c] -= length * product[c];
    }
    return turn(r, false) <= part * first_[i];
  }

  const Bitmask& mask_;
  const Tensor& c_;
  int64_t rows_, cols_;
  Tensor value_, residual_, direction_, product_;
  std::vector<float> inverse_diagonal_;
  std::vector<double> square_, first_;
};

}  // namespace

Tensor least_squares(const Tensor& weight, const Tensor& start, const Bitmask& mask, const Curvature& curvature,
                     const LeastSquaresOptions& options) {
  Rows rows(weight, start, mask, curvature);
  for (int i = 0; i < options.most_iterations; ++i) {
    check_stop();
    if (rows.step(options.tolerance)) break;
  }
  return rows.value();
}

}  // namespace hone
