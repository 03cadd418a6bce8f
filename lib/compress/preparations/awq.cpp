// Scaling the inputs of linear layers so that rounding spares those that matter (AWQ: Lin et al., arXiv 2306.00978).
//
// Input j of a layer's weight is multiplied by s_j, and the gain and bias of the norm before it divided by s_j:
// s_j = E[x_j^2]^(a/2) over the tokens of the text, their geometric mean 1. Of a = 0, 1/8, …, 1 each layer gets the one
// behind which rounding to its element leaves the least sum_j E[x_j^2] (w_j - w'_j)^2 (section 3.2 there, which takes
// means of |x_j|). Its number is a; 0: left as it was.
//
// Layers that norm_scales.h has not, those with elements without scales and what is packed already stay as they are.
#include <algorithm>
#include <cmath>
#include <vector>

#include "compress/preparations/norm_scales.h"
#include "compress/quantize_matrix.h"

namespace hone {
namespace {

constexpr int exponents = 8;  // beside 0

// E[x_j^2]^(a/2), their geometric mean 1. An input that is never anything counts as the least of the others.
std::vector<float> scales_for(const std::vector<float>& moments, double exponent) {
  double least = 0;
  for (const float m : moments)
    if (m > 0) least = least == 0 ? m : std::min<double>(least, m);
  std::vector<double> logs;
  for (const float m : moments) logs.push_back(least == 0 ? 0 : exponent / 2 * std::log(m > 0 ? m : least));
  return centred_scales(logs);
}

bool helps_scaled(const kernels::ElementInfo& element) {
  return element.scaled;
}

double rounding_error(const Tensor& weight, const Bitmask& mask, const LayerType& layer,
                      const std::vector<float>& moments, const std::vector<float>& scales, bool search) {
  const Tensor scaled = scaled_columns(weight, scales);
  const std::vector<float> behind = moments_behind(moments, scales);
  return quantization_error(scaled, rounded_as(layer, scaled, mask, behind, search), behind).squared_error;
}

double balance(const NormReader& reader, const LayerType& layer, const std::vector<float>& moments, bool search) {
  const Tensor dense = (*reader.weight)->to_dense();
  const Bitmask mask = (*reader.weight)->mask();
  double best = 0, least = rounding_error(dense, mask, layer, moments, scales_for(moments, 0), search);
  for (int i = 1; i <= exponents; ++i) {
    const double exponent = static_cast<double>(i) / exponents;
    const double error = rounding_error(dense, mask, layer, moments, scales_for(moments, exponent), search);
    if (error >= least) continue;
    least = error;
    best = exponent;
  }
  if (best > 0) scale_inputs(reader, dense, mask, scales_for(moments, best));
  return best;
}

std::map<std::string, double> awq(const ModelToPrepare& what) {
  return change_norm_readers(
      what, helps_scaled, {StatisticKind::of<ColumnSquares>()},
      [&](const NormReader& reader, const LayerType& layer, const Measurement& measured) -> std::optional<double> {
        if (!measured.inputs) return 0;
        return balance(reader, layer, measured.inputs->get<ColumnSquares>().means(), what.search);
      });
}

}  // namespace

Preparation awq_preparation() {
  return {
      "awq",
      "scales the inputs of query/key/value and up where it lessens what rounding costs, and the norm before them by "
      "the inverse",
      "awq_exponent", helps_scaled, awq};
}

}  // namespace hone
