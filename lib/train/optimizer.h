// The optimizer of a model: a rule and its state for every parameter (train/optimizers/).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "model/transformer.h"
#include "train/optimizers/update_rule.h"

namespace hone {

// Throws Error(usage), naming the first, for a weight that cannot be trained.
void require_trainable(const Transformer& model);

// Bytes of gradients and of what the optimizer keeps for a model of this shape.
double optimizer_bytes(const Config& config, const OptimizerSettings& settings);

class Optimizer {
 public:
  // Keeps references into `model`: weights must not be replaced while it lives. Throws as
  // require_trainable().
  Optimizer(Transformer& model, const OptimizerSettings& settings);

  // Euclidean norm of all gradients; masked elements do not count (and are cleared).
  double gradient_norm();
  // One step with the gradients scaled by `scale`, and of the weight decay the part `decay`; gradients are used up.
  // Masked elements stay 0.
  void step(double learning_rate, double scale, double decay = 1);
  void discard_gradients();

  std::string_view name() const { return name_; }  // of the row
  int64_t steps() const { return steps_; }
  int64_t state_bytes() const;                  // of what the rules keep
  std::map<std::string, Tensor> state() const;  // "<parameter>.<array of its rule>": shared, not copied
  void restore(const std::map<std::string, Tensor>& state, int64_t steps);  // Error(input) when arrays do not fit

 private:
  struct Slot {
    std::string name;
    Parameter* parameter;
    std::shared_ptr<Weight> weight;  // null for a plain parameter
    std::shared_ptr<const UpdateRule> rule;
    std::map<std::string, Tensor> state;
  };
  std::string_view name_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

}  // namespace hone
