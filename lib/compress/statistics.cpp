#include "compress/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/gemm/gemm.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"

namespace hone {
namespace {

struct Row {
  std::string_view name;
  std::unique_ptr<Statistic> (*make)(int64_t cols);
  double bytes, bytes_squared;  // a column, and a pair of them
};

template <class S>
std::unique_ptr<Statistic> make(int64_t cols) {
  return std::make_unique<S>(cols);
}

// In the order of StatisticKind.
constexpr Row statistics[] = {
    {"squares", make<ColumnSquares>, 4, 0},
    {"gram", make<GramMatrix>, 0, 4},
    {"extremes", make<ColumnExtremes>, 8, 0},
    {"sums", make<ColumnSums>, 4, 0},
};

const Row& row_of(StatisticKind kind) {
  return statistics[static_cast<size_t>(kind)];
}

template <class T>
void add_extremes(kernels::ConstView x, float* least, float* greatest) {
  kernels::parallel_for(x.cols, kernels::row_grain(x.rows), [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < x.rows; ++r) {
      const T* row = x.row<T>(r);
      for (int64_t c = begin; c < end; ++c) {
        const float value = to_float(row[c]);
        const bool unknown = std::isnan(value);
        if (value < least[c] || unknown) least[c] = value;
        if (value > greatest[c] || unknown) greatest[c] = value;
      }
    }
  });
}

}  // namespace

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

ColumnExtremes::ColumnExtremes(int64_t cols)
    : least_(static_cast<size_t>(cols), std::numeric_limits<float>::infinity()),
      greatest_(static_cast<size_t>(cols), -std::numeric_limits<float>::infinity()) {}

void ColumnExtremes::add(kernels::ConstView x) {
  kernels::with_float_type(x.dtype, [&]<class T>(T*) { add_extremes<T>(x, least_.data(), greatest_.data()); });
}

void ColumnSums::add(kernels::ConstView x) {
  if (x.rows > 0) kernels::add_column_sums(x, sums_.data());
}

std::string_view name_of(StatisticKind kind) {
  return row_of(kind).name;
}

double statistic_bytes(StatisticKind kind, int64_t cols) {
  const double n = static_cast<double>(cols);
  return row_of(kind).bytes * n + row_of(kind).bytes_squared * n * n;
}

InputStatistics::InputStatistics(std::span<const StatisticKind> kinds, int64_t cols, bool expert)
    : cols_(cols), expert_(expert) {
  for (const StatisticKind kind : kinds) statistics_.push_back(row_of(kind).make(cols));
}

void InputStatistics::add(kernels::ConstView x) {
  for (const auto& statistic : statistics_) statistic->add(x);
  tokens_ += x.rows;
}

}  // namespace hone
