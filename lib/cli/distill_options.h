// Options of training the scales of a quantized model, and what does it.
#pragma once

#include <nlohmann/json.hpp>

#include "cli/calibration_options.h"
#include "cli/tool.h"

namespace hone::cli {

struct DistillOptions {
  int64_t steps = 0;  // 0: none
  double rate = 1e-3;
  const CLI::App* app = nullptr;  // that they were added to

  void add(CLI::App* group, const CLI::App& to);
  void check() const;  // before anything is read: Error(usage) for a rate without steps
};

// Trains scales and norms of `model` on the divergence from the file `parent`. What goes to the lineage and the result;
// null where nothing is asked for.
nlohmann::json distill_scales(const DistillOptions& o, const CalibrationOptions& calibration, const std::string& parent,
                              Model& model, const Common& common);

// The same members with the longest numbers that can be: what the result needs of a file at most.
nlohmann::json longest_distilled(const DistillOptions& o);

}  // namespace hone::cli
