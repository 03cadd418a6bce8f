#include "cli/calibration_options.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "cli/effects.h"
#include "cli/precision.h"
#include "compress/targets.h"
#include "measure/footprint.h"

namespace hone::cli {

std::vector<std::string> calibration_options() {
  return {"--calibration", "--calibration-windows", "--calibration-context"};
}

void CalibrationOptions::add(CLI::App& to) {
  app = &to;
  auto* group = to.add_option_group("Calibration");
  group->add_option("--calibration", files, "Text to measure activations on, as train's --data")->type_name("FILE");
  add_count(group, "--calibration-windows", windows, "Windows of the text, spread evenly over it", size_range);
  add_count(group, "--calibration-context", context, "Tokens of a window (default: the model's context, at most 2048)",
            size_range);
  group
      ->add_option("--precision", precision,
                   "Of activations: bf16, f32, or auto: bf16 where the processor computes in it")
      ->check(one_of({"auto", "bf16", "f32"}));
}

void CalibrationOptions::check(bool other_text, bool timed) const {
  if (!files.empty() || other_text) return;
  // Whoever gives these believes that the model is calibrated; a precision may be meant for several tools.
  for (const std::string& option : calibration_options())
    if (given(*app, option)) throw usage_error("{} has no effect without --calibration FILE", option);
  warn_of_idle(*app, {{"--precision", !timed, "without --calibration"}});
}

DType CalibrationOptions::type() const {
  return type_of(precision);
}

int64_t CalibrationOptions::length(const Model& model) const {
  const Config& config = model.transformer->config();
  const int64_t tokens = context.value_or(std::min<int64_t>(config.context, 2048));
  if (tokens < 1) throw usage_error("--calibration-context must be at least 1, not {}", tokens);
  if (tokens > max_positions(config))
    throw usage_error("--calibration-context {} is longer than the model's {} learned positions", tokens,
                      config.context);
  return tokens;
}

std::optional<CalibrationText> CalibrationOptions::read(const Model& model, int64_t most) const {
  return read(model, most, 0).text;
}

CalibrationTexts CalibrationOptions::read_with_rest(const Model& model) const {
  return read(model, windows, judged_windows);
}

CalibrationTexts CalibrationOptions::read(const Model& model, int64_t most, int64_t held_out) const {
  if (files.empty()) return {};
  if (windows < 1) throw usage_error("--calibration-windows must be at least 1, not {}", windows);
  const int64_t tokens = length(model);
  if (std::ranges::any_of(files, [](const std::string& path) { return path != "-" && holds_parts(path); })) {
    SequenceReader reader(read_examples(files), make_tokenizer(model.tokenizer), model.transformer->config(), tokens,
                          {});
    return {calibration_examples(reader, most), std::nullopt};
  }
  const Corpus text = open_corpus(files, make_tokenizer(model.tokenizer));
  if (text.size() < tokens)
    throw input_error(
        "'{}' has {}, less than one calibration window of {}; give more text or a smaller --calibration-context",
        text.name(), counted(text.size(), "token"), tokens);
  return {calibration_text(text, most, tokens), held_out_text(text, most, tokens, held_out)};
}

void CalibrationOptions::require_memory(const Transformer& model, const CalibrationText* text,
                                        double weight_bytes) const {
  const int64_t tokens = text ? text->rows() : 0;
  require_memory_for(calibration_footprint(model.config(), tokens, type(), weight_bytes), "this run",
                     text ? "use fewer or shorter --calibration-windows, or a smaller model" : "use a smaller model");
}

double bytes_of_weights(const Transformer& model, const std::vector<std::string>& names, double bytes_an_element) {
  double bytes = 0;
  for (const NamedWeight& named : named_weights(model))
    if (std::find(names.begin(), names.end(), named.name) != names.end())
      bytes += bytes_an_element * static_cast<double>(named.weight->rows() * named.weight->cols());
  return bytes;
}

void set_coverage(Row& row, std::optional<int64_t> tokens, bool data_free, bool dampened) {
  if (!tokens) return;
  row.set("calibration_tokens", *tokens);
  row.set("calibration", data_free ? "too few" : dampened ? "dampened" : "used");
}

void warn_of_dampened(int64_t count, int64_t all, const std::string& first, int64_t first_tokens) {
  log_warning(
      "{} of {} saw fewer calibration tokens than they have inputs (the first is '{}': {} tokens), which tell "
      "little of them: they were dampened; give more text or --calibration-windows",
      count, counted(all, "weight"), first, first_tokens);
}

void warn_of_data_free(int64_t data_free, int64_t all, const std::string& first, int64_t first_tokens) {
  log_warning(
      "{} of {} weights are of experts that saw fewer calibration tokens than they have inputs (the first is '{}': {} "
      "tokens) and "
      "were treated without data; give more text or --calibration-windows",
      data_free, all, first, first_tokens);
}

}  // namespace hone::cli
