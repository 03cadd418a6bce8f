// Options of the tools that measure a model's activations on text.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/tool.h"
#include "compress/calibration.h"
#include "report/report.h"

namespace hone::cli {

// Windows of a text, and some of it that they leave out.
struct CalibrationTexts {
  std::optional<CalibrationText> text, rest;  // no rest of examples
};

struct CalibrationOptions {
  static constexpr int64_t judged_windows = 16;  // that a loss is measured on, unless a text is named for it

  std::vector<std::string> files;
  int64_t windows = 128;
  std::optional<int64_t> context;
  std::string precision = "auto";
  const CLI::App* app = nullptr;  // that they were added to

  void add(CLI::App& to);
  // Options without effect: Error(usage), or a warning. `other_text`: its windows are chosen by these options, too;
  // `timed`: runs are timed at this precision.
  void check(bool other_text = false, bool timed = false) const;
  DType type() const;
  int64_t length(const Model& model) const;  // of a window
  // The windows, tokenized as the model wants; none where no file was given.
  std::optional<CalibrationText> read(const Model& model) const { return read(model, windows); }
  // The same in so many windows, spread evenly, or as many as there are.
  std::optional<CalibrationText> read(const Model& model, int64_t most) const;
  // The windows, and at most judged_windows others.
  CalibrationTexts read_with_rest(const Model& model) const;
  // Throws Error(usage) where the text (or null) and weights of `weight_bytes` do not fit the memory there is.
  void require_memory(const Transformer& model, const CalibrationText* text, double weight_bytes) const;

 private:
  CalibrationTexts read(const Model& model, int64_t most, int64_t held_out) const;
};

std::vector<std::string> calibration_options();  // those that go with --calibration, and itself

// Of the weights with these names, at so many bytes an element.
double bytes_of_weights(const Transformer& model, const std::vector<std::string>& names, double bytes_an_element);

// What a report says of the tokens that a layer was calibrated with: `calibration_tokens`, and `calibration`: used,
// dampened or too few.
void set_coverage(Row& row, std::optional<int64_t> tokens, bool data_free, bool dampened = false);

// On stderr, where experts saw too few tokens and were treated without data, and where second-order methods had fewer
// tokens than a layer has inputs.
void warn_of_data_free(int64_t count, int64_t all, const std::string& first, int64_t first_tokens);
void warn_of_dampened(int64_t count, int64_t all, const std::string& first, int64_t first_tokens);
template <class Layer>
void warn_of_coverage(const std::vector<Layer>& layers) {
  for (const auto member : {&Layer::data_free, &Layer::dampened}) {
    int64_t count = 0;
    const Layer* first = nullptr;
    for (const Layer& layer : layers) {
      if (!(layer.*member)) continue;
      if (count++ == 0) first = &layer;
    }
    if (!first) continue;
    (member == &Layer::data_free ? warn_of_data_free : warn_of_dampened)(count, static_cast<int64_t>(layers.size()),
                                                                         first->name, *first->calibration_tokens);
  }
}

}  // namespace hone::cli
