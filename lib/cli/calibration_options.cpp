#include "cli/calibration_options.h"

#include <algorithm>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text_output.h"
#include "cli/late_texts.h"
#include "compress/targets.h"
#include "kernels/gemm/gemm.h"
#include "measure/evaluate.h"
#include "measure/footprint.h"

namespace hone::cli {

void CalibrationOptions::add(CLI::App& app) {
  auto* group = app.add_option_group("Calibration");
  group->add_option("--calibration", files, "Text to measure activations on, as train's --data");
  add_count(group, "--calibration-windows", windows, "Windows of the text, spread evenly over it", size_range);
  add_count(group, "--calibration-context", context, "Tokens of a window (default: the model's context, at most 2048)",
            size_range);
  group
      ->add_option("--precision", precision,
                   "Of activations: bf16, f32, or auto: bf16 where the processor computes in it")
      ->check(one_of({"auto", "bf16", "f32"}));
}

DType CalibrationOptions::type() const {
  return precision == "auto" ? kernels::default_type() : precision == "bf16" ? DType::bf16 : DType::f32;
}

std::optional<CalibrationText> CalibrationOptions::read(const Model& model) const {
  if (files.empty()) {
    if (context || windows != CalibrationOptions().windows)
      throw usage_error("--calibration-{} has no effect without --calibration FILE", context ? "context" : "windows");
    return std::nullopt;
  }
  if (windows < 1) throw usage_error("--calibration-windows must be at least 1, not {}", windows);
  const Config& config = model.transformer->config();
  const int64_t length = context.value_or(std::min<int64_t>(config.context, 2048));
  if (length < 1) throw usage_error("--calibration-context must be at least 1, not {}", length);
  if (config.block.positions == PositionKind::learned && length > config.context)
    throw usage_error("--calibration-context {} is longer than the model's {} learned positions", length,
                      config.context);
  return calibration_text(open_corpus(files, make_tokenizer(model.tokenizer)), windows, length);
}

void CalibrationOptions::require_memory(const Transformer& model, const CalibrationText* text,
                                        double weight_bytes) const {
  const int64_t tokens = text ? text->windows * text->length : 0;
  require_memory_for(calibration_footprint(model.config(), tokens, type(), weight_bytes), "this run",
                     text ? "use fewer or shorter --calibration-windows, or a smaller model" : "use a smaller model");
}

double bytes_of_weights(Transformer& model, const std::vector<std::string>& names, double bytes_an_element) {
  double bytes = 0;
  for (const WeightSlot& slot : weight_slots(model))
    if (std::find(names.begin(), names.end(), slot.name) != names.end())
      bytes += bytes_an_element * static_cast<double>((*slot.weight)->rows() * (*slot.weight)->cols());
  return bytes;
}

void set_coverage(Row& row, std::optional<int64_t> tokens, bool data_free) {
  if (!tokens) return;
  row.set("calibration_tokens", *tokens);
  row.set("calibration", data_free ? "too few" : "used");
}

void warn_of_coverage(int64_t data_free, int64_t all, const std::string& first, int64_t first_tokens) {
  log_warning(
      "{} of {} weights are of experts that saw fewer calibration tokens than they have inputs (the first is '{}': {} "
      "tokens) and "
      "were treated without data; give more text or --calibration-windows",
      data_free, all, first, first_tokens);
}

void check_model_files(const std::string& model, const std::string& output, const std::string& report, bool force,
                       const CalibrationOptions& calibration, const Common& common) {
  require_writable(output, force);
  if (!report.empty()) require_text_writable(report, force);
  std::vector<NamedPath> inputs = named("--calibration", calibration.files);
  inputs.insert(inputs.end(), {{"MODEL", model}, {"--config", common.config}});
  require_distinct({{"--output", output}, {"--report", report}}, inputs);
}

}  // namespace hone::cli
