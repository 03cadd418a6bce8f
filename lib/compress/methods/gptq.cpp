// GPTQ (Frantar et al., arXiv 2210.17323): column after column is rounded, and those behind it make up for what that
// cost; then coordinate descent (compress/refine.h). Columns that matter most come first, when most others can still
// make up for them (the paper's "act-order"); but only within their group, and groups by what their columns add up to,
// so that a group stays the columns that share a scale and nothing is permuted when the model runs.
#include <algorithm>
#include <numeric>
#include <vector>

#include "compress/columns.h"
#include "compress/curvature.h"
#include "compress/methods/round_method.h"
#include "compress/quantize_matrix.h"
#include "compress/refine.h"
#include "kernels/packed/nearest.h"

namespace hone {
namespace {

// order[i]: the column that is rounded i-th. A last group that is shorter stays the last.
std::vector<int64_t> order_of(const Tensor& curvature, int64_t width) {
  const int64_t cols = curvature.dim(0), whole = cols / width;
  const auto weight = [&](int64_t c) { return curvature.data<float>()[c * cols + c]; };
  std::vector<double> sums(static_cast<size_t>(whole));
  for (int64_t c = 0; c < whole * width; ++c) sums[static_cast<size_t>(c / width)] += static_cast<double>(weight(c));
  std::vector<int64_t> groups(static_cast<size_t>(whole)), order(static_cast<size_t>(cols));
  std::iota(groups.begin(), groups.end(), 0);
  std::stable_sort(groups.begin(), groups.end(),
                   [&](int64_t a, int64_t b) { return sums[static_cast<size_t>(a)] > sums[static_cast<size_t>(b)]; });
  if (whole * width < cols) groups.push_back(whole);
  auto at = order.begin();
  for (const int64_t group : groups) {
    const auto first = at;
    for (int64_t c = group * width; c < std::min(cols, (group + 1) * width); ++c) *at++ = c;
    std::stable_sort(first, at, [&](int64_t a, int64_t b) { return weight(a) > weight(b); });
  }
  return order;
}

Tensor with_columns(const Tensor& from, const std::vector<int64_t>& order) {
  const int64_t rows = from.dim(0), cols = from.dim(1);
  Tensor to = Tensor::empty(from.shape());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      to.data<float>()[r * cols + c] = from.data<float>()[r * cols + order[static_cast<size_t>(c)]];
  return to;
}

Curvature with_columns(const Curvature& from, const std::vector<int64_t>& order) {
  const Tensor some = with_columns(from.matrix, order);
  const int64_t cols = some.dim(0);
  Curvature to{Tensor::empty({cols, cols}), from.damping};
  for (int64_t r = 0; r < cols; ++r)
    std::copy_n(some.data<float>() + order[static_cast<size_t>(r)] * cols, cols, to.matrix.data<float>() + r * cols);
  return to;
}

class Gptq {
 public:
  Gptq(const WeightToRound& what, const Curvature& curvature)
      : what_(what),
        rows_(what.weight.dim(0)),
        cols_(what.weight.dim(1)),
        width_(what.group ? std::min(what.group, cols_) : cols_),
        order_(order_of(curvature.matrix, width_)),
        columns_(with_columns(what.weight, order_), with_columns(curvature, order_), what.name),
        numbers_(what.element),
        matrix_{rows_,
                cols_,
                what.group,
                what.element,
                Tensor::zeros({rows_, cols_}, DType::i8),
                Tensor::empty({rows_, group_count(cols_, what.group)}),
                what.mask.clone()} {}

  QuantizedMatrix run() {
    // A scale for whole rows is found at the start; columns then hear of each other in batches all the same.
    if (width_ == cols_) find_scales(0, cols_);
    columns_.run(
        width_ == cols_ ? std::min<int64_t>(cols_, 128) : width_,
        [&](int64_t first, int64_t count) {
          if (width_ != cols_) find_scales(first, count);
        },
        [&](int64_t r, int64_t c, float w) { return round(r, order_[static_cast<size_t>(c)], w); });
    return std::move(matrix_);
  }

 private:
  // Of one group, by its weights as they are now: an error e in column c costs e^2 / R_cc^2 once those behind it have
  // made up for it.
  void find_scales(int64_t first, int64_t count) {
    Tensor some = Tensor::empty({rows_, count});
    Bitmask mask = what_.mask ? Bitmask::zeros(rows_, count) : Bitmask();
    std::vector<float> moments(static_cast<size_t>(count));
    for (int64_t c = 0; c < count; ++c)
      moments[static_cast<size_t>(c)] = 1 / (columns_.deviation(first + c) * columns_.deviation(first + c));
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t c = 0; c < count; ++c) {
        some.data<float>()[r * count + c] = columns_.at(r, first + c);
        if (mask && what_.mask.at(r, order_[static_cast<size_t>(first + c)])) mask.set(r, c);
      }
    const QuantizedMatrix found = quantize_matrix(some, {what_.element, 0, true}, what_.name, moments, mask);
    const int64_t groups = matrix_.scales.dim(1), group = order_[static_cast<size_t>(first)] / width_;
    for (int64_t r = 0; r < rows_; ++r)
      matrix_.scales.data<float>()[r * groups + group] = found.scales.data<float>()[r];
  }

  float round(int64_t r, int64_t c, float w) {
    const float scale = matrix_.scales.data<float>()[r * matrix_.scales.dim(1) + c / width_];
    if (scale == 0 || (what_.mask && !what_.mask.at(r, c))) return 0;
    const int q = numbers_.nearest(w / scale);
    matrix_.integers.data<int8_t>()[r * cols_ + c] = static_cast<int8_t>(q);
    return numbers_[q] * scale;
  }

  const WeightToRound& what_;
  int64_t rows_, cols_, width_;
  std::vector<int64_t> order_;
  CompensatedColumns columns_;  // in that order; so are the columns that it counts
  kernels::ElementNumbers numbers_;
  QuantizedMatrix matrix_;  // in the order of the weight
};

// Of each row what has less error.
void take_better_rows(QuantizedMatrix& into, const QuantizedMatrix& from, const WeightToRound& what,
                      const Curvature& curvature) {
  const std::vector<double> errors = row_errors(what.weight, dequantize(into), curvature),
                            others = row_errors(what.weight, dequantize(from), curvature);
  const int64_t cols = into.cols, groups = into.scales.dim(1);
  for (int64_t r = 0; r < into.rows; ++r) {
    if (!(others[static_cast<size_t>(r)] < errors[static_cast<size_t>(r)])) continue;
    std::copy_n(from.integers.data<int8_t>() + r * cols, cols, into.integers.data<int8_t>() + r * cols);
    std::copy_n(from.scales.data<float>() + r * groups, groups, into.scales.data<float>() + r * groups);
  }
}

RoundedWeight gptq(const WeightToRound& what) {
  RoundedWeight rounded;
  if (!what.inputs || what.mask) rounded = round_to_integers(what, true, {});
  if (!what.inputs) return rounded;
  const Curvature curvature = curvature_of(what.inputs, what.weight.dim(1), what.name, what.number);
  QuantizedMatrix matrix = Gptq(what, curvature).run();
  refine(matrix, what.weight, curvature);
  if (what.mask) {
    // Columns that are pruned in some rows cannot make up for others there, though the method counts on them: some rows
    // come out better from the integers next to their weights.
    refine(rounded.matrix, what.weight, curvature);
    take_better_rows(matrix, rounded.matrix, what, curvature);
  }
  rounded.matrix = std::move(matrix);
  rounded.relative_error = output_error(what.weight, dequantize(rounded.matrix), curvature).relative();
  return rounded;
}

}  // namespace

RoundMethod gptq_method() {
  return {.name = "gptq",
          .summary = "scales and integers with the least error in the outputs; later columns make up for earlier ones",
          .needs = {StatisticKind::of<GramMatrix>()},
          .behind = MeasuredBehind::layers,
          .without_scales = false,
          .run = gptq,
          .dampens = true,
          .number = dampening_number};
}

}  // namespace hone
