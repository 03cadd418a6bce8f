// SparseGPT (Frantar & Alistarh, arXiv 2301.00774): column after column is decided, and those behind it make up for
// what it lost. The rows of R = chol(C^-1), upper triangular, are what is needed of the inverses of all trailing parts
// of C (section 3.3 there; arXiv 2210.17323, section 3.3).
#include <algorithm>

#include "base/error.h"
#include "compress/columns.h"
#include "compress/curvature.h"
#include "compress/masks.h"
#include "compress/methods/prune_method.h"
#include "compress/select.h"
#include "kernels/parallel.h"

namespace hone {
namespace {

// Columns whose masks are chosen at once, by the weights as they are when the first of them is reached: 128 adapt to
// what happened before and still compare enough weights; a pattern with a sparsity of its own compares within its
// groups alone, each as late as can be.
int64_t chosen_at_once(const Pattern& pattern) {
  const int64_t unit = pattern.column_unit();
  return pattern.fixed_sparsity() ? unit : unit * std::max<int64_t>(1, 128 / unit);
}

class Choice {
 public:
  Choice(const WeightToPrune& what, const CompensatedColumns& columns)
      : what_(what),
        columns_(columns),
        rows_(what.weight.dim(0)),
        cols_(what.weight.dim(1)),
        kept_(Tensor::zeros({rows_, cols_}, DType::u8)),
        scores_(Tensor::empty({rows_, cols_})) {}

  // Of columns first … first + count - 1, by what they cost: w^2 / R_jj^2 (equation 3 of the paper).
  void choose(int64_t first, int64_t count) {
    const Tensor scores = Tensor::empty({rows_, count});
    Bitmask before = what_.mask ? Bitmask::zeros(rows_, count) : Bitmask();
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t c = 0; c < count; ++c) {
        const float ratio = columns_.at(r, first + c) / columns_.deviation(first + c);
        scores.data<float>()[r * count + c] = ratio * ratio;
        scores_.data<float>()[r * cols_ + first + c] = ratio * ratio;
        if (before && what_.mask.at(r, first + c)) before.set(r, c);
      }
    // So many that all columns so far have the sparsity asked for, whatever rounding did to those before.
    const int64_t wanted = pruned_of(rows_ * (first + count), what_.sparsity) - pruned_;
    const double part =
        static_cast<double>(std::clamp<int64_t>(wanted, 0, rows_ * count)) / static_cast<double>(rows_ * count);
    const Bitmask mask =
        what_.pattern.select(scores, selection_keys(scores, before, what_.name), part, ComparisonGroup::layer);
    pruned_ += mask.left_out();
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t c = 0; c < count; ++c) kept_.data<uint8_t>()[r * cols_ + first + c] = mask.at(r, c);
  }

  bool kept(int64_t r, int64_t c) const { return kept_.data<uint8_t>()[r * cols_ + c]; }
  Bitmask mask() const { return pack_mask(kept_); }
  const Tensor& scores() const { return scores_; }

 private:
  const WeightToPrune& what_;
  const CompensatedColumns& columns_;
  int64_t rows_, cols_, pruned_ = 0;
  Tensor kept_, scores_;
};

PrunedWeight sparsegpt(const WeightToPrune& what) {
  const int64_t cols = what.weight.dim(1), width = chosen_at_once(what.pattern);
  CompensatedColumns columns(what.weight, curvature_of(what.inputs, cols, what.name, what.number), what.name);
  Choice choice(what, columns);
  columns.run(
      width, [&](int64_t first, int64_t count) { choice.choose(first, count); },
      [&](int64_t r, int64_t c, float w) { return choice.kept(r, c) ? w : 0.0f; });
  return {columns.weight(), choice.mask(), choice.scores()};
}

}  // namespace

PruneMethod sparsegpt_method() {
  return {.name = "sparsegpt",
          .summary = "least loss of output by second-order estimates; later columns make up for earlier ones",
          .needs = {StatisticKind::of<GramMatrix>()},
          .behind = MeasuredBehind::layers,
          .run = sparsegpt,
          .dampens = true,
          .number = dampening_number};
}

}  // namespace hone
