// Structured pruning: layers, halves of layers, experts, numbers of the residual stream, heads and hidden units go, and
// what is left is an ordinary model of smaller shape, without masks.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "compress/calibration.h"
#include "compress/structure.h"

namespace hone {

struct StructureSettings {
  StructureCounts counts;  // structure_counts() of the model
  const CalibrationText* calibration = nullptr;
  DType type = DType::f32;  // of activations in calibration
  std::function<void(const std::string& what, int64_t done, int64_t all)> progress;
};

// A layer of the old model and what of it stays.
struct StructuredLayer {
  int64_t from = 0;                           // number in the old model
  LayerBlueprint before, after;               // of a layer that went, the sizes of `after` are 0
  std::optional<double> kl;                   // of the model without this layer or half, when it went
  std::map<std::string_view, double> errors;  // by StructureKind::error: squared error over the square of what was
  std::optional<int64_t> calibration_tokens;  // the fewest that entered one of its down projections
  bool data_free = false;                     // an expert saw too few: its units went by the size of their weights
};

struct StructuredModel {
  std::unique_ptr<Transformer> model;
  std::vector<StructuredLayer> layers;  // of the old model, all
  double block_parameters_removed = 0;  // part of the elements of the blocks' weights
};

// Throws Error(usage) naming a weight that is.
void require_unquantized(const Transformer& model);

// Layers (and halves) go first, one after the other, each the one without which the model's predictions on the
// calibration text diverge least; then experts, those without which the mixture's output changes least; then numbers of
// the residual stream, rotated for that (compress/rotation.h); then, layer by layer through the model as it has become,
// heads and hidden units, with the output and down projections (and their biases) of the rest refitted by least squares
// (compress/units.h). Throws Error(usage) for a quantized weight, or where a structure cannot be taken out of such a
// model, or without a calibration text, and as calibrate(). `model` is changed: its numbers are those of the result.
StructuredModel prune_structures(Transformer& model, const StructureSettings& settings);

}  // namespace hone
