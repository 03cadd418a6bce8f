#include "model/exit_calibration.h"

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
    return calibration;
  } catch (const std::exception&) {
    throw input_error("'{}': the calibration of exits in its lineage is damaged; calibrate them again", where);
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
