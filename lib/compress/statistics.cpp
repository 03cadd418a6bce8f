#include "compress/statistics.h"

#include <algorithm>
#include <cmath>

#include "kernels/gemm/gemm.h"
#include "kernels/rows/elementwise.h"

namespace hone {

void ColumnSquares::add(kernels::ConstView x) {
  kernels::add_column_squares(x, sums_.data());
  tokens_ += x.rows;
}

std::vector<float> ColumnSquares::norms() const {
  std::vector<float> result(sums_);
  for (float& x : result) x = std::sqrt(x);
  return result;
}

std::vector<float> ColumnSquares::means() const {
  std::vector<float> result(sums_);
  for (float& x : result) x /= static_cast<float>(std::max<int64_t>(tokens_, 1));
  return result;
}

// Strips of columns, each down to the diagonal: half the products of a whole matrix, less what a strip's own corner has
// below it.
void GramMatrix::add(kernels::ConstView x) {
  if (x.rows == 0) return;
  constexpr int64_t strip = 256;
  const auto columns = [](auto v, int64_t first, int64_t count) {
    v.data = static_cast<const char*>(v.data) + first * static_cast<int64_t>(size_of(v.dtype));
    v.cols = count;
    return v;
  };
  for (int64_t first = 0; first < x.cols; first += strip) {
    const int64_t count = std::min(strip, x.cols - first), upto = first + count;
    kernels::gemm(columns(x, 0, upto), true, columns(x, first, count), false,
                  kernels::rows_of(sums_.columns(first, count), 0, upto), true);
  }
}

const Tensor& GramMatrix::sums() const {
  const int64_t n = sums_.dim(0);
  float* sums = sums_.data<float>();
  for (int64_t r = 1; r < n; ++r)
    for (int64_t c = 0; c < r; ++c) sums[r * n + c] = sums[c * n + r];
  return sums_;
}

void ColumnSums::add(kernels::ConstView x) {
  if (x.rows > 0) kernels::add_column_sums(x, sums_.data());
}

void ColumnMaxima::add(kernels::ConstView x) {
  if (x.rows == 0) return;
  Tensor converted;
  if (x.dtype != DType::f32) {
    converted = Tensor::empty({x.rows, x.cols});
    kernels::convert(x, converted.view());
    x = converted.view();
  }
  for (int64_t r = 0; r < x.rows; ++r) {
    const float* row = x.row<float>(r);
    for (size_t c = 0; c < maxima_.size(); ++c) {
      const float size = std::fabs(row[c]);
      if (!(size <= maxima_[c]) && !std::isnan(maxima_[c])) maxima_[c] = size;
    }
  }
}

// A row's number is a multiple of the step; where there is no more room, every second one goes.
void SampledRows::add(kernels::ConstView x) {
  for (int64_t r = 0; r < x.rows; ++r, ++seen_) {
    if (seen_ % step_ != 0) continue;
    if (count_ == most) {
      for (int64_t kept = 1; kept < most / 2; ++kept)
        kernels::convert(rows_.rows(2 * kept, 1).view(), rows_.rows(kept, 1).view());
      count_ = most / 2;
      step_ *= 2;
    }
    kernels::ConstView row = x;
    row.data = static_cast<const char*>(x.data) + r * x.stride * static_cast<int64_t>(size_of(x.dtype));
    row.rows = 1;
    kernels::convert(row, rows_.rows(count_, 1).view());
    ++count_;
  }
}

InputStatistics::InputStatistics(std::span<const StatisticKind> kinds, int64_t cols, bool expert)
    : cols_(cols), expert_(expert) {
  for (const StatisticKind& kind : kinds) statistics_.push_back(kind.make(cols));
}

void InputStatistics::add(kernels::ConstView x) {
  for (const auto& statistic : statistics_) statistic->add(x);
  tokens_ += x.rows;
}

}  // namespace hone
