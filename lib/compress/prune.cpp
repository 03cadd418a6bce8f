#include "compress/prune.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "base/stop.h"
#include "compress/masks.h"
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

PrunedLayer prune_weight(const WeightSlot& slot, const PruneSettings& s, const Measurement& measured) {
  check_stop();
  const Tensor dense = (*slot.weight)->to_dense();
  const Bitmask before = (*slot.weight)->mask();
  const PrunedWeight pruned = s.method->run({slot.name, dense, before, measured.inputs, *s.pattern, s.sparsity});
  check_stop();
  PrunedLayer layer;
  layer.name = slot.name;
  layer.rows = dense.dim(0);
  layer.cols = dense.dim(1);
  if (before) layer.sparsity_before = before.sparsity();
  layer.sparsity = pruned.mask.sparsity();
  const double all = sum_of(pruned.scores, {});
  layer.score_kept = all > 0 ? sum_of(pruned.scores, pruned.mask) / all : 1;
  layer.calibration_tokens = measured.tokens;
  layer.data_free = measured.data_free;
  *slot.weight = std::make_shared<DenseWeight>(pruned.weight, pruned.mask);
  return layer;
}

std::vector<WeightSlot> slots_to_prune(Transformer& model, const PruneSettings& s) {
  const std::vector<WeightSlot> all = weight_slots(model);
  std::vector<WeightSlot> chosen;
  for (const WeightSlot& slot : all) {
    if (!s.rule.chosen(slot.name)) continue;
    chosen.push_back(slot);
    Weight& weight = **slot.weight;
    if (!weight.parameter())
      throw usage_error("'{}' is a {} {} weight; prune the model before it is quantized", slot.name, weight.form(),
                        weight.element());
    s.pattern->check_shape(weight.rows(), weight.cols(), s.sparsity, slot.name);
  }
  if (chosen.empty())
    throw usage_error("no weight is chosen to be pruned; the model has {}", fmt::join(names_of(all), ", "));
  if (s.method->needs_calibration() && !s.calibration)
    throw usage_error("method {} measures what enters each layer and needs a calibration text", s.method->name);
  std::stable_partition(chosen.begin(), chosen.end(), [](const WeightSlot& slot) { return is_linear(slot.role); });
  return chosen;
}

}  // namespace

std::vector<std::string> weights_to_prune(Transformer& model, const PruneSettings& s) {
  return names_of(slots_to_prune(model, s));
}

std::vector<PrunedLayer> prune_model(Transformer& model, const PruneSettings& s) {
  const std::vector<WeightSlot> chosen = slots_to_prune(model, s);
  std::vector<CalibrationTarget> targets;
  for (const WeightSlot& slot : chosen) targets.push_back({slot.name, s.method->needs});
  std::vector<PrunedLayer> layers(chosen.size());
  calibrate(
      model, targets, s.method->behind, s.calibration, s.type,
      [&](size_t i, const Measurement& measured) { layers[i] = prune_weight(chosen[i], s, measured); }, s.progress);
  return layers;
}

}  // namespace hone
