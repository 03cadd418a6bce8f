// Options of the tools that measure a model's activations on text.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/tool.h"
#include "compress/calibration.h"
#include "report/report.h"

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
  // Throws Error(usage) where the text (or null) and weights of `weight_bytes` do not fit the memory there is.
  void require_memory(const Transformer& model, const CalibrationText* text, double weight_bytes) const;
};

// Of the weights with these names, at so many bytes an element.
double bytes_of_weights(Transformer& model, const std::vector<std::string>& names, double bytes_an_element);

// What a report says of the tokens that a layer was calibrated with: `calibration_tokens`, and `calibration`: used or
// too few.
void set_coverage(Row& row, std::optional<int64_t> tokens, bool data_free);

// On stderr, where experts saw too few tokens and were treated without data.
void warn_of_coverage(int64_t data_free, int64_t all, const std::string& first, int64_t first_tokens);
template <class Layer>
void warn_of_coverage(const std::vector<Layer>& layers) {
  int64_t count = 0;
  const Layer* first = nullptr;
  for (const Layer& layer : layers) {
    if (!layer.data_free) continue;
    if (count++ == 0) first = &layer;
  }
  if (first) warn_of_coverage(count, static_cast<int64_t>(layers.size()), first->name, *first->calibration_tokens);
}

// Before the work of a tool that makes one model from another: throws Error(usage) or Error(input) for a target or
// report that cannot be written, and for files of the call that are one.
void check_model_files(const std::string& model, const std::string& output, const std::string& report, bool force,
                       const CalibrationOptions& calibration, const Common& common);

}  // namespace hone::cli
