// |w_ij| * ||x_j||_2 (Sun et al., arXiv 2306.11695, equation 1), compared within each output row. The norm is over the
// calibration tokens, as the block that is pruned was: nothing makes up for what a mask takes out, and norms behind it
// prune worse (docs/results, "Calibration group by group").
#include <cmath>

#include "compress/methods/scores.h"

namespace hone {
namespace {

PrunedWeight wanda(const WeightToPrune& what) {
  const size_t cols = static_cast<size_t>(what.weight.dim(1));
  const std::vector<float> norms =
      what.inputs ? what.inputs->get<ColumnSquares>().norms() : std::vector<float>(cols, 1.0f);
  const float* norm = norms.data();
  const Tensor scores = score_each(what.weight, [norm](float w, int64_t c) { return std::fabs(w) * norm[c]; });
  return prune_lowest(what, scores, ComparisonGroup::row);
}

}  // namespace

PruneMethod wanda_method() {
  return {"wanda",
          "smallest |weight| x norm of its input, compared within each output row",
          {StatisticKind::of<ColumnSquares>()},
          MeasuredBehind::blocks,
          wanda};
}

}  // namespace hone
