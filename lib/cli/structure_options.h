// Options of structured pruning, and the run that they ask for.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/calibration_options.h"
#include "cli/measure_options.h"
#include "cli/model_files.h"
#include "compress/structured.h"

namespace hone::cli {

struct StructureOptions {
  std::string structure, plot;
  std::optional<double> target_speedup;
  int64_t multiple = Structure().multiple;
  const CLI::App* app = nullptr;  // that they were added to

  void add(CLI::App& to);
  bool given() const;
};

std::vector<std::string> mask_options();  // those that make masks, which structures do not

// In place of a run that makes masks. The exit status.
int prune_structures(const StructureOptions& o, const CalibrationOptions& calibration, const MeasureOptions& measure,
                     const ModelFiles& files, const Common& common);

}  // namespace hone::cli
