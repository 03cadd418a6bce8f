// Settings of the optimizers: what all share, and those of each rule.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace hone {

enum class MomentForm { f32, bf16, int8 };
inline constexpr std::array<std::string_view, 3> moment_forms = {"f32", "bf16", "int8"};
MomentForm moment_form(const std::string& name);  // Error(usage) for another name

struct OptimizerKind;

struct AdamWSettings {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double rate = 1;  // times the step's learning rate
};

struct MuonSettings {
  double momentum = 0.95;
};

struct OptimizerSettings {
  const OptimizerKind* kind;  // a row of optimizers(), or one of the caller's own
  double weight_decay = 0.1;  // of parameters whose `decay` is set
  // Decay only where the update moves an element towards 0, too (cautious weight decay, arXiv 2510.12402).
  bool cautious_decay = false;
  MomentForm moments = MomentForm::f32;
  uint64_t seed = 1;  // of what moments in bf16 are rounded by
  AdamWSettings adamw = {};
  MuonSettings muon = {};

  OptimizerSettings();  // AdamW
};

}  // namespace hone
