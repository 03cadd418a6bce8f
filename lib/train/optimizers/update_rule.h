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
#include <vector>

#include "model/config.h"
#include "nn/parameters.h"
#include "tensor/pool.h"
#include "train/optimizers/settings.h"

namespace hone {

// One parameter in one step.
struct Update {
  Parameter& parameter;  // value and gradient, f32; a rule changes the value and may use up the gradient
  const Bitmask& mask;   // or empty; elements that it leaves out stay 0
  std::map<std::string, Tensor>& state;  // arrays() of this parameter, by name
  double learning_rate = 0;
  double scale = 1;  // of the gradient: clipping
  int64_t step = 1;  // of the run, from 1
  double decay = 1;  // what the schedule leaves of the weight decay
};

// An array that a rule keeps: zeros before the first step.
struct StateArray {
  std::string name;
  Shape shape;
  DType type = DType::f32;

  double bytes() const {  // as the pool takes them
    return pool_block_bytes(static_cast<double>(elements(shape)) * static_cast<double>(size_of(type)));
  }
};

class UpdateRule {
 public:
  virtual ~UpdateRule() = default;
  // What to keep for a parameter of this shape. Checkpoints have the arrays as "<parameter>.<name>".
  virtual std::vector<StateArray> arrays(const Shape& shape) const = 0;
  virtual void apply(const Update& update) const = 0;
};

struct OptimizerKind {
  std::string_view name;   // as checkpoints have it
  std::string_view title;  // "AdamW", in sentences
  std::string_view what;   // behind the name in help texts: "for the matrices of blocks …"; or nothing
  std::shared_ptr<const UpdateRule> (*rule)(const ParameterInfo& parameter, const Config& config,
                                            const OptimizerSettings& settings);
  std::span<const OptimizerNumber* const> numbers = {};
  bool elementwise = false;           // its steps are of single elements: ranks may have parts of a matrix
  bool leaves_rest_to_adamw = false;  // at OptimizerSettings::adamw_rate
};

std::span<const OptimizerKind> optimizers();
// Those of all rows, each once, as they begin.
std::vector<std::pair<const OptimizerNumber*, double>> numbers_of_optimizers();
const OptimizerKind& optimizer_named(const std::string& name);  // Error(usage) for another name

}  // namespace hone
