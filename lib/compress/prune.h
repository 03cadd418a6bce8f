// Pruning a model: a method, a pattern, and masks on its linear layers.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compress/calibration.h"
#include "compress/methods/prune_method.h"
#include "compress/patterns.h"
#include "compress/targets.h"

namespace hone {

// A weight by its name.
struct LayerSparsity {
  std::string name;
  double sparsity = 0;
};

struct PruneSettings {
  const PruneMethod* method = nullptr;
  std::optional<double> number = {};  // of the method, in place of its usual one
  const Pattern* pattern = nullptr;
  double sparsity = 0.5;           // resolve_sparsity() of patterns.h
  std::vector<LayerSparsity> own;  // of weights that have another (allocation.h)
  TargetRule rule;
  bool update = false;  // what stays becomes the least squares of the mask (least_squares.h); needs a calibration text
  const CalibrationText* calibration = nullptr;  // where the method or the update needs it
  DType type = DType::f32;                       // of activations in calibration
  // Called with each weight that is done; what it returns takes the weight's place. WeightSpill::put(), for one.
  std::function<std::shared_ptr<Weight>(std::shared_ptr<Weight>)> keep;
  std::function<void(int64_t done, int64_t all)> progress;

  double sparsity_of(const std::string& weight) const;
  std::vector<StatisticKind> needs() const;  // of what enters a weight; the Gram matrix last
};

// One pruned weight.
struct PrunedLayer {
  std::string name;
  int64_t rows = 0, cols = 0;
  double sparsity_before = 0, sparsity = 0;
  double score_kept = 0;                      // sum of the scores of kept weights over the sum of all
  std::optional<int64_t> calibration_tokens;  // that entered the layer, where the method wants any
  bool data_free = false;                     // too few of them: scored as if all inputs were alike
  bool dampened = false;                      // fewer than inputs: what they cannot tell is dampened
  // Squared error of the outputs over their squared size, where the Gram matrix was measured: of the mask alone, and
  // with what became of the weights that stay.
  std::optional<double> error_masked, error;

  bool measured() const { return error.has_value(); }
};

// Every chosen weight gets a mask; one that has a mask keeps its zeros. Layers come back in the order of the model:
// blocks, head, embedding. Throws Error(usage) when nothing is chosen, a chosen weight is quantized, the pattern does
// not divide it, or the method needs a calibration text and has none; nothing is changed then. Throws as calibrate()
// does.
std::vector<PrunedLayer> prune_model(Transformer& model, const PruneSettings& settings);

// One weight of prune_model(), with what was measured of it; `slot` becomes the pruned one.
PrunedLayer prune_weight(const std::string& name, std::shared_ptr<Weight>& slot, const PruneSettings& settings,
                         const Measurement& measured);

// The names of the weights that prune_model() would prune; throws as it does.
std::vector<std::string> weights_to_prune(const Transformer& model, const PruneSettings& settings);

}  // namespace hone
