// |w|: what is smallest goes.
#include <cmath>

#include "compress/methods/scores.h"

namespace hone {
namespace {

PrunedWeight magnitude(const WeightToPrune& what) {
  const Tensor scores = score_each(what.weight, [](float w, int64_t) { return std::fabs(w); });
  return prune_lowest(what, scores, ComparisonGroup::layer);
}

}  // namespace

PruneMethod magnitude_method() {
  return {"magnitude", "smallest absolute value, compared over the whole layer", {}, MeasuredBehind::layers, magnitude};
}

}  // namespace hone
