// Settings of the optimizers: what all share, and those of each rule.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hone {

enum class MomentForm { f32, bf16, int8 };
inline constexpr std::array<std::string_view, 3> moment_forms = {"f32", "bf16", "int8"};
MomentForm moment_form(const std::string& name);  // Error(usage) for another name

struct OptimizerKind;

// A number of a rule that a person may set: a constant beside the rule, and named in the rows of the optimizers that
// have it.
struct OptimizerNumber {
  std::string_view name;  // "muon_momentum", as options, runs and checkpoints have it
  std::string_view what;  // for people
  double initial, least, most;
  bool whole = false;  // a count
};

// What such numbers are set to.
class OptimizerNumbers {
 public:
  double operator[](const OptimizerNumber& number) const;  // initial where nobody has set it
  void set(const OptimizerNumber& number, double value);

 private:
  std::vector<std::pair<const OptimizerNumber*, double>> values_;
};

struct OptimizerSettings {
  const OptimizerKind* kind;  // a row of optimizers(), or one of the caller's own
  double weight_decay = 0.1;  // of parameters whose `decay` is set
  // Decay only where the update moves an element towards 0, too (cautious weight decay, arXiv 2510.12402).
  bool cautious_decay = false;
  MomentForm moments = MomentForm::f32;
  uint64_t seed = 1;      // of what moments in bf16 are rounded by
  double adamw_rate = 1;  // times the step's learning rate: of what AdamW moves
  OptimizerNumbers numbers = {};

  OptimizerSettings();  // AdamW
};

}  // namespace hone
