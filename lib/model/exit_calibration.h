// Thresholds of exits with a promise, as the lineage of a model keeps them.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "model/exit_rule.h"

namespace hone {

// On text of the kind that it was found on, a part of at least `agreement` of all tokens is predicted as by all layers,
// with a probability of at least `confidence` (measure/exits.h).
struct ExitCalibration {
  ExitRule rule;
  double agreement = 0, confidence = 0;
  std::string text_hash = {};  // of the tokens that it was found on
};

// What the last stage of a lineage found. Throws Error(usage) where it found nothing, saying so where an earlier one
// did (the model has changed since), and Error(input) for an entry that is damaged. `where`: the file.
ExitCalibration calibration_of(const nlohmann::json& lineage, const std::string& where);

// The same for a person, with what was measured; where the model has changed since, that. Empty where there never was a
// calibration.
std::string describe_calibration(const nlohmann::json& lineage);

// A rule as a person gives it, or "calibrated": what calibration_of() finds.
inline constexpr const char* calibrated_rule = "calibrated";
ExitRule exit_rule_of(const std::string& text, const nlohmann::json& lineage, const std::string& where);

// The member of a stage's results that has it: criterion, threshold, agreement, confidence, and what `evidence` has,
// the hash of the text among it.
inline constexpr const char* calibration_member = "exit_calibration";
nlohmann::json to_json(const ExitCalibration& calibration, nlohmann::json evidence);

}  // namespace hone
