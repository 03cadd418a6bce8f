#include "kernels/solve/cholesky.h"

#include <algorithm>
#include <Eigen/Cholesky>
#include <vector>

#include "kernels/gemm/gemm.h"
#include "kernels/parallel.h"

namespace hone::kernels {
namespace {

// Columns of a panel: enough that the products behind it run at their speed, and few enough that what Eigen does in it
// on one thread (n * panel^2 operations) is a small part.
constexpr int64_t panel = 64;

// Columns that a product has at once, where what lies above the diagonal is left out of it.
constexpr int64_t strip = 128;

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Map = Eigen::Map<Matrix, 0, Eigen::OuterStride<>>;

Map map(View x) {
  return Map(x.row<float>(0), x.rows, x.cols, Eigen::OuterStride<>(x.stride));
}

View block(View a, int64_t row, int64_t rows, int64_t col, int64_t cols) {
  return columns_of(rows_of(a, row, rows), col, cols);
}

// A packed copy of x, negated: products can add but not subtract.
View negative(View x, std::vector<float>& memory) {
  memory.resize(static_cast<size_t>(x.rows * x.cols));
  const View copy = view(memory.data(), x.rows, x.cols);
  parallel_for(x.rows, row_grain(x.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < x.cols; ++c) copy.row<float>(r)[c] = -x.row<float>(r)[c];
  });
  return copy;
}

Matrix inverse_of_lower(const Map& l) {
  return l.triangularView<Eigen::Lower>().solve(Matrix::Identity(l.rows(), l.cols()));
}

}  // namespace

// Right-looking: a panel is factored, then what it explains is taken from the lower triangle behind it, a strip of
// columns at a time.
bool cholesky(View a) {
  const int64_t n = a.rows;
  std::vector<float> memory, below_memory;
  for (int64_t first = 0; first < n; first += panel) {
    const int64_t width = std::min(panel, n - first), after = first + width, rest = n - after;
    Map corner = map(block(a, first, width, first, width));
    const Eigen::LLT<Matrix> factor(corner);
    if (factor.info() != Eigen::Success || !factor.matrixLLT().diagonal().allFinite()) return false;
    corner = factor.matrixL();
    for (int64_t r = first; r < after; ++r) std::fill(a.row<float>(r) + after, a.row<float>(r) + n, 0.0f);
    if (rest == 0) break;
    Matrix inverse = inverse_of_lower(corner);
    const View below = block(a, after, rest, first, width);
    below_memory.resize(static_cast<size_t>(rest * width));
    const View solved = view(below_memory.data(), rest, width);
    gemm(below, false, view(inverse.data(), width, width), true, solved);
    map(below) = map(solved);
    const View minus = negative(solved, memory);
    constexpr int64_t wide = 512;
    for (int64_t c = 0; c < rest; c += wide) {
      const int64_t cols = std::min(wide, rest - c);
      gemm(rows_of(minus, c, rest - c), false, rows_of(solved, c, cols), true,
           block(a, after + c, rest - c, after + c, cols), true);
    }
  }
  return true;
}

// Row panel after row panel: X_k = -L_kk^-1 (L_k,<k X_<k), with X_kk = L_kk^-1.
void invert_lower(View l) {
  const int64_t n = l.rows;
  std::vector<float> memory, product_memory;
  for (int64_t first = 0; first < n; first += panel) {
    const int64_t width = std::min(panel, n - first);
    Map corner = map(block(l, first, width, first, width));
    Matrix inverse = inverse_of_lower(corner);
    corner = inverse;
    if (first == 0) continue;
    const View before = block(l, first, width, 0, first);
    product_memory.resize(static_cast<size_t>(width * first));
    const View product = view(product_memory.data(), width, first);
    for (int64_t c = 0; c < first; c += strip) {  // of a lower triangle: nothing above row c
      const int64_t cols = std::min(strip, first - c);
      gemm(columns_of(before, c, first - c), false, block(l, c, first - c, c, cols), false,
           columns_of(product, c, cols));
    }
    const View minus = negative(view(inverse.data(), width, width), memory);
    gemm(minus, false, product, false, before);
  }
}

// A^-1 = X^T X with X = L^-1, whose row k reaches from column 0 to k: of a strip that begins at column c, rows from c
// on. What lies above the diagonal is what lies below it.
bool invert_positive(View a) {
  if (!cholesky(a)) return false;
  invert_lower(a);
  const int64_t n = a.rows;
  std::vector<float> inverse(static_cast<size_t>(n * n));
  for (int64_t r = 0; r < n; ++r) std::copy_n(a.row<float>(r), n, inverse.data() + r * n);
  const View x = view(inverse.data(), n, n);
  for (int64_t c = 0; c < n; c += strip) {
    const int64_t cols = std::min(strip, n - c), rest = n - c;
    gemm(block(x, c, rest, c, rest), true, block(x, c, rest, c, cols), false, block(a, c, rest, c, cols));
  }
  parallel_for(n, row_grain(n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = r + 1; c < n; ++c) a.row<float>(r)[c] = a.row<float>(c)[r];
  });
  return true;
}

}  // namespace hone::kernels
