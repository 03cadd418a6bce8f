// Scaling the inputs of linear layers so that 8 bits spare them (SmoothQuant: Xiao et al., arXiv 2211.10438).
//
// A few inputs that are much larger than the others of their segment take the bits of all: activations of 8 bits have a
// scale for each row and segment (kernels/packed/packed.h), which reaches the largest of them. Input j is divided by
// s_j in the norm before, and column j of the weight multiplied by it: s_j = max |x_j|^a / max |w_j|^(1-a) over the
// tokens and the outputs (equation 4 there), their geometric mean 1. So the weight takes over a part of what is hard to
// round. Which part, each layer says: of a = 0, 1/8, …, 1 and of leaving it as it was it gets that with the least error
// of its outputs for a sample of the tokens, with its weight rounded to its element and activations to 8 bits. Its
// number is a; one that is left as it was has none.
//
// Layers that norm_scales.h has not, those whose element is not of integers and what is packed already stay as they
// are.
#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/stop.h"
#include "compress/preparations/norm_scales.h"
#include "weights/dense_weight.h"
#include "weights/packed_weight.h"

namespace hone {
namespace {

constexpr int migrations = 8;  // beside 0

// What is smaller than this part of the largest counts as that, so that scales stay numbers whose squares are some.
constexpr float least_part = 1e-4f;

std::vector<double> logs_of(std::span<const float> sizes) {
  const float largest = *std::ranges::max_element(sizes);
  std::vector<double> logs;
  for (const float x : sizes) logs.push_back(largest > 0 ? std::log(std::max(x, largest * least_part)) : 0);
  return logs;
}

std::vector<float> largest_of_columns(const Tensor& weight) {
  ColumnMaxima columns(weight.dim(1));
  columns.add(weight.view());
  return {columns.maxima().begin(), columns.maxima().end()};
}

Tensor products_of(const Weight& weight, const Tensor& x) {
  const Tensor y = Tensor::empty({x.dim(0), weight.rows()});
  weight.matmul(x.view(), y.view());
  return y;
}

bool helps_integers(const kernels::ElementInfo& element) {
  return element.arithmetic == kernels::Arithmetic::integer;
}

// A layer, and what is known of it.
class Smoothing {
 public:
  Smoothing(const NormReader& reader, const LayerType& layer, const InputStatistics& inputs, bool search)
      : reader_(reader),
        layer_(layer),
        search_(search),
        dense_((*reader.weight)->to_dense()),
        mask_((*reader.weight)->mask()),
        rows_(inputs.get<SampledRows>().rows()),
        exact_(products_of(DenseWeight(dense_, mask_), rows_)),
        moments_(inputs.get<ColumnSquares>().means()),
        input_logs_(logs_of(inputs.get<ColumnMaxima>().maxima())),
        weight_logs_(logs_of(largest_of_columns(dense_))) {}

  // Scales the inputs where that helps; the power that it took.
  std::optional<double> run() const {
    std::optional<double> best;
    double least = output_error(std::vector<float>(moments_.size(), 1));
    if (!std::isfinite(least))
      throw input_error("'{}': what enters it on the calibration text, or its weights, are not finite", layer_.name);
    for (int i = 0; i <= migrations; ++i) {
      check_stop();
      const double power = static_cast<double>(i) / migrations;
      const double error = output_error(scales_for_power(power));
      if (!(error < least)) continue;
      least = error;
      best = power;
    }
    if (best) scale_inputs(reader_, dense_, mask_, scales_for_power(*best));
    return best;
  }

 private:
  std::vector<float> scales_for_power(double power) const {
    std::vector<double> logs(input_logs_.size());
    for (size_t j = 0; j < logs.size(); ++j) logs[j] = power * input_logs_[j] - (1 - power) * weight_logs_[j];
    return centred_scales(logs);
  }

  // Sum over the sampled tokens of |y - y'|^2.
  double output_error(const std::vector<float>& scales) const {
    const QuantizedMatrix matrix =
        rounded_as(layer_, scaled_columns(dense_, scales), mask_, moments_behind(moments_, scales), search_);
    const std::shared_ptr<Weight> packed = pack_integers(matrix);
    packed->set_rounding({kernels::F32Activations::integers, 8});
    std::vector<float> inverse;
    for (const float s : scales) inverse.push_back(1 / s);
    const Tensor rounded = products_of(*packed, scaled_columns(rows_, inverse));
    double sum = 0;
    for (int64_t i = 0; i < rounded.size(); ++i) {
      const double error = static_cast<double>(rounded.data<float>()[i]) - static_cast<double>(exact_.data<float>()[i]);
      sum += error * error;
    }
    return sum;
  }

  const NormReader& reader_;
  const LayerType& layer_;
  bool search_;
  Tensor dense_;
  Bitmask mask_;
  Tensor rows_, exact_;  // f32 [tokens, inputs]; [tokens, outputs]
  std::vector<float> moments_;
  std::vector<double> input_logs_, weight_logs_;
};

std::map<std::string, double> smooth(const ModelToPrepare& what) {
  return change_norm_readers(
      what, helps_integers,
      {StatisticKind::of<ColumnSquares>(), StatisticKind::of<ColumnMaxima>(), StatisticKind::of<SampledRows>()},
      [&](const NormReader& reader, const LayerType& layer, const Measurement& measured) -> std::optional<double> {
        if (!measured.inputs) return std::nullopt;
        return Smoothing(reader, layer, *measured.inputs, what.search).run();
      });
}

}  // namespace

Preparation smooth_preparation() {
  return {
      "smooth",
      "scales the same inputs where it lessens what activations of 8 bits cost, by how large inputs and weights are",
      "smooth_alpha", helps_integers, smooth};
}

}  // namespace hone
