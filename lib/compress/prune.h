// Pruning a model: scores, a pattern, and masks on its linear layers.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compress/calibration.h"
#include "compress/patterns.h"
#include "compress/scores.h"
#include "compress/targets.h"

namespace hone {

struct PruneSettings {
  const ScoreMethod* method = nullptr;
  const Pattern* pattern = nullptr;
  double sparsity = 0.5;  // resolve_sparsity() of patterns.h
  TargetRule rule;
  const CalibrationText* calibration = nullptr;  // where the method needs it
  DType type = DType::f32;                       // of activations in calibration
  std::function<void(int64_t done, int64_t all)> progress;
};

// One pruned weight.
struct PrunedLayer {
  std::string name;
  int64_t rows = 0, cols = 0;
  double sparsity_before = 0, sparsity = 0;
  double score_kept = 0;                      // sum of the scores of kept weights over the sum of all
  std::optional<int64_t> calibration_tokens;  // that entered the layer, where the method wants any
  bool data_free = false;                     // too few of them: scored as if all inputs were alike
};

// Every chosen weight gets a mask; one that has a mask keeps its zeros. Throws Error(usage) when nothing is chosen, a
// chosen weight is quantized, or the pattern does not divide it; nothing is changed then.
std::vector<PrunedLayer> prune_model(Transformer& model, const PruneSettings& settings);

// The names of the weights that prune_model() would prune; throws as it does.
std::vector<std::string> weights_to_prune(Transformer& model, const PruneSettings& settings);

}  // namespace hone
