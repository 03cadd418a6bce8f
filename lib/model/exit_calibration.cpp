#include "model/exit_calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace hone {
namespace {

const nlohmann::json* found_in(const nlohmann::json& stage) {
  if (!stage.is_object() || !stage.contains("results") || !stage["results"].is_object()) return nullptr;
  const auto found = stage["results"].find(calibration_member);
  return found == stage["results"].end() ? nullptr : &*found;
}

}  // namespace

ExitRule exit_rule_of(const std::string& text, const nlohmann::json& lineage, const std::string& where) {
  return text == calibrated_rule ? calibration_of(lineage, where).rule : parse_exit_rule(text);
}

ExitCalibration calibration_of(const nlohmann::json& lineage, const std::string& where) {
  bool before = false;
  if (lineage.is_array())
    for (const nlohmann::json& stage : lineage) before = before || found_in(stage);
  if (!before) throw usage_error("'{}' has no calibrated exits; calibrate them with eval first", where);
  const nlohmann::json* there = found_in(lineage.back());
  if (!there) throw usage_error("'{}' has changed since its exits were calibrated; calibrate them again", where);
  try {
    ExitCalibration calibration;
    const auto number = [&](const char* name) { return there->at(name).get<double>(); };
    calibration.rule.criterion = &exit_criterion(there->at("criterion").get<std::string>());
    calibration.rule.threshold = number("threshold");
    calibration.agreement = number("agreement");
    calibration.confidence = number("confidence");
    calibration.text_hash = there->value("text_hash", std::string());
    return calibration;
  } catch (const std::exception&) {
    throw input_error("'{}': the calibration of exits in its lineage is damaged; calibrate them again", where);
  }
}

std::string describe_calibration(const nlohmann::json& lineage) {
  if (!lineage.is_array() || std::none_of(lineage.begin(), lineage.end(), found_in)) return {};
  const nlohmann::json* there = found_in(lineage.back());
  if (!there) return "none that holds: the model has changed since it was calibrated";
  try {
    const ExitCalibration calibration = calibration_of(lineage, "");
    std::string text = fmt::format("{}, an agreement of {} with {} confidence", to_string(calibration.rule),
                                   calibration.agreement, calibration.confidence);
    if (there->contains("measured_agreement"))
      text +=
          fmt::format("; {:.4f} measured on {} windows of {} tokens of '{}' (hash {})",
                      there->at("measured_agreement").get<double>(), there->at("windows").get<int64_t>(),
                      there->at("context").get<int64_t>(), there->at("text").get<std::string>(), calibration.text_hash);
    return text;
  } catch (const std::exception&) {
    return "damaged";
  }
}

nlohmann::json to_json(const ExitCalibration& calibration, nlohmann::json evidence) {
  evidence.update({{"criterion", calibration.rule.criterion->name},
                   {"threshold", calibration.rule.threshold},
                   {"agreement", calibration.agreement},
                   {"confidence", calibration.confidence}});
  return evidence;
}

}  // namespace hone
