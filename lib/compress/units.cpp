#include "compress/units.h"

#include <algorithm>
#include <cmath>
#include <Eigen/Cholesky>
#include <numeric>

#include "base/error.h"
#include "base/stop.h"
#include "compress/least_squares.h"

namespace hone {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Columns = std::vector<int64_t>;

using SquareMap = Eigen::Map<const MatrixXd>;
using VectorMap = Eigen::Map<const VectorXd>;

SquareMap gram_of(const InputMoments& c) {
  return {c.gram.data(), c.cols, c.cols};
}

constexpr double dampening = 0.01;  // of the mean diagonal, as SparseGPT (arXiv 2301.00774)

MatrixXd matrix_of(const Tensor& t) {
  return Eigen::Map<const RowMajor>(t.data<float>(), t.dim(0), t.dim(1)).cast<double>();
}

Tensor tensor_of(const MatrixXd& m) {
  const Tensor t = Tensor::empty({m.rows(), m.cols()});
  Eigen::Map<RowMajor>(t.data<float>(), m.rows(), m.cols()) = m.cast<float>();
  return t;
}

// Those columns (or rows) side by side.
template <class M>
MatrixXd columns_at(const M& matrix, const Columns& which) {
  MatrixXd part(matrix.rows(), static_cast<Eigen::Index>(which.size()));
  for (size_t i = 0; i < which.size(); ++i) part.col(static_cast<Eigen::Index>(i)) = matrix.col(which[i]);
  return part;
}

template <class M>
MatrixXd rows_at(const M& matrix, const Columns& which) {
  MatrixXd part(static_cast<Eigen::Index>(which.size()), matrix.cols());
  for (size_t i = 0; i < which.size(); ++i) part.row(static_cast<Eigen::Index>(i)) = matrix.row(which[i]);
  return part;
}

Columns columns_of(int64_t unit, int64_t width) {
  Columns columns(static_cast<size_t>(width));
  std::iota(columns.begin(), columns.end(), unit * width);
  return columns;
}

// tr(W G W^T): the square of the output.
double energy(const MatrixXd& weight, const SquareMap& gram) {
  return (weight * gram).cwiseProduct(weight).sum();
}

// The weight and the inverse of its moments, both as they are after what went.
class Surgeon {
 public:
  Surgeon(const Tensor& weight, const InputMoments& moments, int64_t width)
      : weight_(matrix_of(weight)), width_(width) {
    inverse_ = gram_of(moments).llt().solve(MatrixXd::Identity(moments.cols, moments.cols));
  }

  // What removing a unit costs.
  double cost(int64_t unit) const {
    const auto at = unit * width_;
    const auto part = weight_.middleCols(at, width_);
    if (width_ == 1) return part.squaredNorm() / inverse_(at, at);
    const MatrixXd own = inverse_.block(at, at, width_, width_);
    return own.ldlt().solve(part.transpose()).cwiseProduct(part.transpose()).sum();
  }

  // Removes units together; the exact cost.
  double remove(const std::vector<int64_t>& units) {
    Columns gone;
    for (const int64_t unit : units)
      for (const int64_t c : columns_of(unit, width_)) gone.push_back(c);
    const MatrixXd rows = rows_at(inverse_, gone);
    const MatrixXd own = columns_at(rows, gone), part = columns_at(weight_, gone);
    const MatrixXd factor = own.ldlt().solve(part.transpose());  // [gone, rows]
    weight_.noalias() -= factor.transpose() * rows;
    inverse_.noalias() -= rows.transpose() * own.ldlt().solve(rows);
    return factor.cwiseProduct(part.transpose()).sum();
  }

 private:
  MatrixXd weight_, inverse_;
  int64_t width_;
};

}  // namespace

std::vector<StatisticKind> moment_needs(bool centred) {
  if (centred) return {StatisticKind::of<GramMatrix>(), StatisticKind::of<ColumnSums>()};
  return {StatisticKind::of<GramMatrix>()};
}

InputMoments moments_of(const InputStatistics* inputs, int64_t cols, bool centred, const std::string& where) {
  const auto n = static_cast<size_t>(cols);
  InputMoments c{cols, std::vector<double>(n * n), std::vector<double>(n), 0};
  Eigen::Map<MatrixXd> gram(c.gram.data(), cols, cols);
  Eigen::Map<VectorXd> means(c.means.data(), cols);
  gram.setIdentity();
  if (!inputs) return c;
  const double tokens = static_cast<double>(inputs->tokens());
  gram = matrix_of(inputs->get<GramMatrix>().sums()) / tokens;
  if (centred) {
    const std::span<const float> sums = inputs->get<ColumnSums>().sums();
    for (int64_t i = 0; i < cols; ++i) means[i] = static_cast<double>(sums[static_cast<size_t>(i)]) / tokens;
    gram.noalias() -= means * means.transpose();
  }
  if (!gram.allFinite() || !means.allFinite())
    throw input_error("'{}': what enters it in the calibration is not finite", where);
  const double mean = gram.diagonal().mean();
  c.damping = mean > 0 ? dampening * mean : 1.0;
  gram.diagonal().array() += c.damping;
  return c;
}

UnitChoice choose_units(const Tensor& weight, const InputMoments& moments, int64_t width, int64_t count,
                        const std::vector<int64_t>& group, int64_t quota) {
  // Small steps: a unit's cost grows when one that does the same has gone.
  constexpr int64_t rounds = 128;
  const int64_t units = weight.dim(1) / width, at_once = std::max<int64_t>(1, count / rounds);
  Surgeon surgeon(weight, moments, width);
  std::vector<bool> gone(static_cast<size_t>(units));
  std::vector<int64_t> left;
  if (!group.empty()) left.assign(static_cast<size_t>(*std::max_element(group.begin(), group.end())) + 1, quota);
  double error = 0;
  for (int64_t done = 0; done < count;) {
    check_stop();
    std::vector<std::pair<double, int64_t>> costs;
    for (int64_t u = 0; u < units; ++u)
      if (!gone[static_cast<size_t>(u)]) costs.emplace_back(surgeon.cost(u), u);
    std::sort(costs.begin(), costs.end());
    std::vector<int64_t> next;
    for (const auto& [cost, unit] : costs) {
      if (static_cast<int64_t>(next.size()) == std::min(at_once, count - done)) break;
      if (!group.empty() && left[static_cast<size_t>(group[static_cast<size_t>(unit)])]-- <= 0) continue;
      next.push_back(unit);
      gone[static_cast<size_t>(unit)] = true;
    }
    if (next.empty()) throw internal_error("{} of {} units cannot go", count, units);
    error += surgeon.remove(next);
    done += static_cast<int64_t>(next.size());
  }
  UnitChoice choice;
  for (int64_t u = 0; u < units; ++u)
    if (!gone[static_cast<size_t>(u)]) choice.kept.push_back(u);
  const double all = energy(matrix_of(weight), gram_of(moments));
  choice.error = all > 0 ? error / all : 0;
  return choice;
}

Tensor refit_columns(const Tensor& weight, const Bitmask& mask, const InputMoments& moments,
                     const std::vector<int64_t>& kept_columns) {
  if (mask) {
    const Bitmask kept = Bitmask::zeros(mask.rows(), mask.cols());
    for (int64_t r = 0; r < mask.rows(); ++r)
      for (const int64_t c : kept_columns)
        if (mask.at(r, c)) kept.set(r, c);
    LeastSquaresOptions thorough;
    thorough.tolerance = 1e-6;
    return least_squares(weight, masked(weight, kept), kept, {tensor_of(gram_of(moments)), 0}, thorough);
  }
  const MatrixXd whole = matrix_of(weight);
  const MatrixXd beside = columns_at(gram_of(moments), kept_columns), gram = rows_at(beside, kept_columns);
  const MatrixXd fitted = gram.llt().solve((whole * beside).transpose()).transpose();
  MatrixXd result = MatrixXd::Zero(whole.rows(), whole.cols());
  for (size_t i = 0; i < kept_columns.size(); ++i)
    result.col(kept_columns[i]) = fitted.col(static_cast<Eigen::Index>(i));
  return tensor_of(result);
}

Tensor bias_gain(const Tensor& before, const Tensor& after, const InputMoments& moments) {
  const VectorXd gain = (matrix_of(before) - matrix_of(after)) * VectorMap(moments.means.data(), moments.cols);
  const Tensor t = Tensor::empty({gain.size()});
  for (Eigen::Index i = 0; i < gain.size(); ++i) t.data<float>()[i] = static_cast<float>(gain[i]);
  return t;
}

}  // namespace hone
