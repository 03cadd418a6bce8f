// AdamW over every parameter of a model.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/transformer.h"

namespace hone {

struct AdamWSettings {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.1;
};

// Throws Error(usage), naming the first, for a weight that cannot be trained.
void require_trainable(const Transformer& model);

class Optimizer {
 public:
  // Keeps references into `model`: weights must not be replaced while it lives. Throws as
  // require_trainable().
  Optimizer(Transformer& model, const AdamWSettings& settings);

  // Euclidean norm of all gradients; masked elements do not count (and are cleared).
  double gradient_norm();
  // One step with the gradients scaled by `scale`; gradients are used up. Masked elements stay 0.
  void step(double learning_rate, double scale);
  void discard_gradients();

  int64_t steps() const { return steps_; }
  std::map<std::string, Tensor> state() const;  // "<name>.m", "<name>.v": shared, not copied
  void restore(const std::map<std::string, Tensor>& state, int64_t steps);  // Error(input) when arrays do not fit

 private:
  struct Slot {
    std::string name;
    Parameter* parameter;
    std::shared_ptr<Weight> weight;  // null for a plain parameter
    Tensor m, v;
  };
  AdamWSettings settings_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

}  // namespace hone
