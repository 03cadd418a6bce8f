// Optimizers are rows of a table: which rule moves which parameter, and what state each rule keeps.
//
// A new optimizer is a file here, with its rules, and a line in the table of optimizers.cpp. What it keeps is saved in
// checkpoints and comes back from them without further words.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "nn/parameters.h"

namespace hone {

// One parameter in one step.
struct Update {
  Parameter& parameter;  // value and gradient, f32; a rule changes the value and may use up the gradient
  const Bitmask& mask;   // or empty; elements that it leaves out stay 0
  std::map<std::string, Tensor>& state;  // what make_state() gave for this parameter
  double learning_rate = 0;
  double scale = 1;  // of the gradient: clipping
  int64_t step = 1;  // of the run, from 1
};

class UpdateRule {
 public:
  virtual ~UpdateRule() = default;
  // The arrays to keep for a parameter of this shape, as they are before the first step. Checkpoints have them as
  // "<parameter>.<name>".
  virtual std::map<std::string, Tensor> make_state(const Shape& shape) const = 0;
  virtual void apply(const Update& update) const = 0;
};

struct OptimizerKind;

struct OptimizerSettings {
  const OptimizerKind* kind;  // a row of optimizers(), or one of the caller's own
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.1;  // of parameters whose `decay` is set

  OptimizerSettings();  // AdamW
};

struct OptimizerKind {
  std::string_view name;  // as checkpoints have it
  std::shared_ptr<const UpdateRule> (*rule)(const ParameterInfo& parameter, const OptimizerSettings& settings);
};

std::span<const OptimizerKind> optimizers();

}  // namespace hone
