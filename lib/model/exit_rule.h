// When an exit is sure enough of its prediction to end a token's way through the model there.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace hone {

// What an exit sees of one token.
struct ExitSeen {
  std::span<const float> logits;  // [vocabulary]
  // [dim] as the head reads it here, and at the exit before this one, which the first has none of.
  std::span<const float> hidden = {}, before = {};
};

// A row of the table in exit_rule.cpp.
struct ExitCriterion {
  const char* name;
  const char* form;                         // as a person writes it: "gap:0.3"
  double least, most;                       // numbers that make sense
  bool least_is_surer;                      // the number is an upper bound: entropy
  double (*measure)(const ExitSeen& seen);  // the number that is compared
};
std::span<const ExitCriterion> exit_criteria();
const ExitCriterion& exit_criterion(const std::string& name);  // Error(usage) lists the names
std::string exit_forms();                                      // "gap:PROBABILITY, entropy:NATS, …"

struct ExitRule {
  const ExitCriterion* criterion = nullptr;
  double threshold = 0;

  bool sure(double measured) const { return criterion->least_is_surer ? measured <= threshold : measured >= threshold; }
  bool sure(const ExitSeen& seen) const { return sure(criterion->measure(seen)); }
};

// "gap:0.3", "entropy:1.0". Throws Error(usage) for another text and a number outside the criterion's range.
ExitRule parse_exit_rule(const std::string& text);
std::string to_string(const ExitRule& rule);

}  // namespace hone
