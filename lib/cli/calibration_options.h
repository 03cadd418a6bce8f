// Options of the tools that measure a model's activations on text.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/tool.h"
#include "compress/calibration.h"

namespace hone::cli {

struct CalibrationOptions {
  std::vector<std::string> files;
  int64_t windows = 128;
  std::optional<int64_t> context;
  std::string precision = "auto";

  void add(CLI::App& app);
  DType type() const;
  // The windows, tokenized as the model wants; none where no file was given.
  std::optional<CalibrationText> read(const Model& model) const;
};

}  // namespace hone::cli
