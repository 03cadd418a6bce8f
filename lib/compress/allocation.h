// Which weights are pruned more than others, at the same total.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "compress/prune.h"

namespace hone {

struct Allotted {
  std::vector<LayerSparsity> sparsities;  // of each weight that is pruned
  // Where it was measured: the divergence (nats a token) of the model's predictions pruned so, and pruned uniformly.
  std::optional<double> kl, kl_uniform;
};

// uniform  every weight alike
// owl      blocks with more outliers are pruned less (Yin et al., arXiv 2310.05175)
// search   what each weight does to the predictions, and its error at other sparsities, by calibration
struct Allocation {
  std::string_view name;
  std::string_view summary;  // a line
  bool needs_calibration;
  // Sparsities which together prune as many as `settings.sparsity` of all would. The model is as before, also where it
  // throws: as prune_model(), and Error(input) for weights or inputs that are not finite numbers.
  Allotted (*run)(Transformer& model, const PruneSettings& settings);
};

Allocation uniform_allocation();
std::span<const Allocation> allocations();
const Allocation& allocation_named(std::string_view name);  // throws Error(usage) that lists them

// An error of a weight at some densities (the part of it that stays), both in order: it falls as they rise.
struct ErrorCurve {
  double elements = 0;
  std::vector<double> densities, errors;  // at least one; errors above 0
};

// The density of each that has the least sum of errors at `density` of all elements, none outside its curve's
// densities. Between those the logarithm of the error is taken as a line.
std::vector<double> best_densities(const std::vector<ErrorCurve>& curves, double density);

}  // namespace hone
