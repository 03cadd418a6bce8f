#include "cli/measure_options.h"

#include <fmt/ranges.h>

#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "measure/footprint.h"
#include "report/late_texts.h"

namespace hone::cli {

void MeasureOptions::add(CLI::App& to) {
  auto* group = to.add_option_group("Measurement");
  group
      ->add_option(
          "--data", data,
          "Text that the loss before and after is measured on (default: what calibration leaves out of its own)")
      ->type_name("FILE");
  group->add_flag("--measure-speed", speed, "Time prefill and decode of the model before and after on this machine");
}

void MeasureOptions::check(const ModelFiles& files, const Common& common) const {
  std::vector<NamedPath> inputs = named("--data", data);
  inputs.insert(inputs.end(), {{"MODEL", files.model}, {"--config", common.config}});
  require_distinct({{"--output", files.output}, {"--report", files.report}}, inputs);
}

void MeasureOptions::check_model(const Model& model) const {
  if (speed) short_generation(model.transformer->config(), DType::f32);
}

nlohmann::json loss_text(const std::string& option, const std::vector<std::string>& files, const char* part,
                         const CalibrationText& text) {
  return {{"option", option},        {"files", files},         {"part", part},
          {"windows", text.windows}, {"context", text.length}, {"tokens", text.rows()}};
}

void require_room_for_loss(const CalibrationText& text, const std::string& option, const Model& model) {
  if (text.windows == 0) return;
  Footprint need;
  need.activations = Reference::bytes(*model.transformer, text);
  require_memory_for(need, "the loss of " + option, "use fewer or shorter --calibration-windows");
}

nlohmann::json losses(const Distance& before, const Distance& after, const nlohmann::json& text) {
  return {{"loss_before", before.loss},         {"loss", after.loss}, {"kl", after.kl}, {"accuracy", after.accuracy},
          {"accuracy_before", before.accuracy}, {"loss_text", text}};
}

LossMeasure::LossMeasure(const MeasureOptions& o, const CalibrationOptions& calibration, const CalibrationTexts& texts,
                         const Model& model)
    : type_(calibration.type()) {
  std::string option = "--calibration";
  std::vector<std::string> files = calibration.files;
  const char* part = "held out";
  if (!o.data.empty()) {
    CalibrationOptions judge = calibration;
    judge.files = files = o.data;
    text_ = *judge.read(model);
    option = "--data";
    part = "spread over it";
  } else if (texts.rest && texts.rest->windows > 0) {
    text_ = *texts.rest;
  } else if (texts.text) {
    text_ = some_windows(*texts.text, CalibrationOptions::judged_windows);
    part = "calibrated on";
  }
  if (text_.length < 2) text_ = {};  // nothing is predicted there
  require_room_for_loss(text_, option, model);
  said_ = loss_text(option, files, part, text_);
  const std::string windows = text_.examples.empty()
                                  ? fmt::format("{} of {} tokens", counted(text_.windows, "window"), text_.length)
                                  : counted(text_.windows, "example");
  words_ = fmt::format("{} of {} {} ({})", windows, option, fmt::join(files, " "), part);
}

void LossMeasure::begin(const Transformer& model) {
  if (!possible()) return;
  reference_ = std::make_unique<Reference>(model, text_, type_);
  before_ = reference_->own();
}

const Distance& LossMeasure::before() const {
  if (!reference_) throw internal_error("no loss was measured before");
  return before_;
}

Distance LossMeasure::distance(const Transformer& model) const {
  if (!reference_) throw internal_error("no loss was measured before");
  return reference_->distance(model);
}

nlohmann::json LossMeasure::of(const Distance& after) const {
  log_info("loss {:.4f} before, {:.4f} after: {}", before().loss, after.loss, words_);
  return losses(before_, after, said_);
}

nlohmann::json speeds(const Speedup& s) {
  log_info("prefill {:.0f} tokens/s before, {:.0f} after; decode {:.1f} before, {:.1f} after",
           s.before.prefill_tokens_per_second(), s.after.prefill_tokens_per_second(),
           s.before.decode_tokens_per_second(), s.after.decode_tokens_per_second());
  return {{"prefill_tokens_per_second_before", s.before.prefill_tokens_per_second()},
          {"prefill_tokens_per_second", s.after.prefill_tokens_per_second()},
          {"decode_tokens_per_second_before", s.before.decode_tokens_per_second()},
          {"decode_tokens_per_second", s.after.decode_tokens_per_second()},
          {"prefill_speedup", s.prefill},
          {"decode_speedup", s.decode}};
}

nlohmann::json speeds(const MeasureOptions& o, const ModelFiles& files, const Transformer& after, DType type) {
  if (!o.speed) return nlohmann::json::object();
  const Model before = load_model(files.model);
  return speeds(measure_speedup(*before.transformer, after, short_generation(after.config(), type)));
}

nlohmann::json loss_and_speeds(const LossMeasure& loss, const MeasureOptions& o, const ModelFiles& files,
                               const Transformer& after, DType type) {
  nlohmann::json all = loss.of(after);
  all.update(speeds(o, files, after, type));
  return all;
}

}  // namespace hone::cli
