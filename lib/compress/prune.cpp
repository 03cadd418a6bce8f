#include "compress/prune.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "base/stop.h"
#include "compress/least_squares.h"
#include "compress/masks.h"
#include "tensor/pages.h"
#include "weights/dense_weight.h"

namespace hone {
namespace {

double sum_of(const Tensor& scores, const Bitmask& mask) {
  const Tensor kept = mask ? expand_mask(mask) : Tensor();
  double sum = 0;
  for (int64_t i = 0; i < scores.size(); ++i)
    if (!kept || kept.data<uint8_t>()[i]) sum += static_cast<double>(scores.data<float>()[i]);
  return sum;
}

}  // namespace

double PruneSettings::sparsity_of(const std::string& weight) const {
  for (const LayerSparsity& layer : own)
    if (layer.name == weight) return layer.sparsity;
  return sparsity;
}

std::vector<StatisticKind> PruneSettings::needs() const {
  std::vector<StatisticKind> kinds = method->needs;
  if (update) {
    std::erase(kinds, StatisticKind::of<GramMatrix>());
    kinds.push_back(StatisticKind::of<GramMatrix>());
  }
  return kinds;
}

PrunedLayer prune_weight(const std::string& name, std::shared_ptr<Weight>& slot, const PruneSettings& s,
                         const Measurement& measured) {
  check_stop();
  const Tensor dense = slot->to_dense();
  const Bitmask before = slot->mask();
  PrunedWeight pruned =
      s.method->run({name, dense, before, measured.inputs, *s.pattern, s.sparsity_of(name), s.number});
  check_stop();
  pruned.weight = masked(pruned.weight, pruned.mask);  // a copy: who has the weight before keeps it as it was
  PrunedLayer layer;
  if (const auto needs = s.needs();
      measured.inputs && !needs.empty() && needs.back() == StatisticKind::of<GramMatrix>()) {
    const Curvature curvature = curvature_of(measured.inputs, dense.dim(1), name);
    const Tensor cut = masked(dense, pruned.mask);
    if (s.update && !s.method->solves) pruned.weight = least_squares(dense, pruned.weight, pruned.mask, curvature);
    layer.error_masked = output_error(dense, cut, curvature).relative();
    layer.error = output_error(dense, pruned.weight, curvature).relative();
  }
  layer.name = name;
  layer.rows = dense.dim(0);
  layer.cols = dense.dim(1);
  if (before) layer.sparsity_before = before.sparsity();
  layer.sparsity = pruned.mask.sparsity();
  const double all = sum_of(pruned.scores, {});
  layer.score_kept = all > 0 ? sum_of(pruned.scores, pruned.mask) / all : 1;
  layer.calibration_tokens = measured.tokens;
  layer.data_free = measured.data_free;
  layer.dampened = measured.dampened;
  slot = std::make_shared<DenseWeight>(std::move(pruned.weight), pruned.mask);
  let_go(dense);
  return layer;
}

std::vector<std::string> weights_to_prune(const Transformer& model, const PruneSettings& s) {
  const std::vector<NamedWeight> all = named_weights(model);
  std::vector<NamedWeight> chosen;
  for (const NamedWeight& named : all) {
    if (!s.rule.chosen(named.name)) continue;
    chosen.push_back(named);
    const Weight& weight = *named.weight;
    if (weight.element() != "f32")
      throw usage_error("'{}' is a {} {} weight; prune the model before it is quantized", named.name, weight.form(),
                        weight.element());
    s.pattern->check_shape(weight.rows(), weight.cols(), s.sparsity_of(named.name), named.name);
  }
  if (chosen.empty())
    throw usage_error("no weight is chosen to be pruned; the model has {}", fmt::join(names_of(all), ", "));
  if (s.method->needs_calibration() && !s.calibration)
    throw usage_error("method {} measures what enters each layer and needs a calibration text", s.method->name);
  if (s.update && !s.calibration)
    throw usage_error("the update of what stays measures what enters each layer and needs a calibration text");
  std::stable_partition(chosen.begin(), chosen.end(), [](const NamedWeight& named) { return is_linear(named.role); });
  return names_of(chosen);
}

std::vector<PrunedLayer> prune_model(Transformer& model, const PruneSettings& s) {
  const std::vector<WeightSlot> chosen = weight_slots(model, weights_to_prune(model, s));
  std::vector<CalibrationTarget> targets;
  for (const WeightSlot& slot : chosen) targets.push_back({slot.name, s.needs(), s.method->dampens || s.update});
  std::vector<PrunedLayer> layers(chosen.size());
  calibrate(
      model, targets, s.update ? MeasuredBehind::layers : s.method->behind, s.calibration, s.type,
      [&](size_t i, const Measurement& measured) {
        layers[i] = prune_weight(chosen[i].name, *chosen[i].weight, s, measured);
        if (s.keep) *chosen[i].weight = s.keep(*chosen[i].weight);
      },
      s.progress);
  return layers;
}

}  // namespace hone
