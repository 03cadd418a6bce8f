// The scales with the least squared error, that of each column weighted by E[x_j^2] (compress/quantize_matrix.h).
#include "compress/methods/round_method.h"

namespace hone {
namespace {

RoundedWeight search(const WeightToRound& what) {
  const std::vector<float> moments = what.inputs ? what.inputs->get<ColumnSquares>().means() : std::vector<float>();
  return round_to_integers(what, true, moments);
}

}  // namespace

RoundMethod search_method() {
  return {"search",
          "the nearest number, by the scale with the least squared error",
          {StatisticKind::of<ColumnSquares>()},
          MeasuredBehind::layers,
          false,
          search};
}

}  // namespace hone
