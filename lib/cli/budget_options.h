// Options of quantizing to a budget, and the run that they ask for.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/activation_options.h"
#include "cli/calibration_options.h"
#include "cli/distill_options.h"
#include "cli/measure_options.h"
#include "cli/model_files.h"
#include "compress/quantize.h"

namespace hone::cli {

struct BudgetOptions {
  std::optional<int64_t> max_bytes;
  std::optional<double> target_bits, min_accuracy;
  std::string max_bytes_text, plot;
  std::vector<std::string> types;       // that are considered; none: all
  std::vector<std::string> sparsities;  // as typed, that are considered beside them; none: as weights are
  std::string pruned_by = "alps";       // method, and its number
  const CLI::App* app = nullptr;        // that they were added to

  void add(CLI::App& to);
  bool given() const;  // a budget; Error(usage) for what has no effect without one
};

std::vector<std::string> type_options();  // those that say types, which a budget finds by itself

// Options of the tool that a run to a budget takes.
struct BudgetParts {
  const BudgetOptions& budget;
  const DistillOptions& distill;
  const ActivationOptions& activations;
  const MeasureOptions& measure;
  CalibrationOptions calibration;
  const ModelFiles& files;
};

// In place of a run with types that are given. `settings` of the other options: method, preparations, calibration's
// type. The exit status: 4 where the accuracy is below --min-accuracy.
int quantize_to_budget(BudgetParts parts, QuantizeSettings settings, bool group_given, const Common& common);

}  // namespace hone::cli
