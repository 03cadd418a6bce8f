// A moving average of a model's parameters over the steps of a run (Polyak & Juditsky 1992), which often validates
// better than the parameters themselves while the learning rate is high.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/transformer.h"

namespace hone {

class ParameterAverage {
 public:
  // Keeps references into `model`: weights must not be replaced while it lives. Begins with the parameters as they are.
  ParameterAverage(Transformer& model, double decay);

  // After step `step` (from 1): average = d average + (1 - d) parameter, where d is the decay, or while that is less
  // (1 + step) / (10 + step), so that the beginning is soon forgotten. What is pruned now is 0 in the average too.
  void add(int64_t step);
  // The model gets the average and this the parameters; twice is as if never.
  void exchange();

  std::map<std::string, Tensor> state() const;               // by the name of the parameter: shared, not copied
  void restore(const std::map<std::string, Tensor>& state);  // Error(input) where arrays do not fit

 private:
  struct Slot {
    std::string name;
    Parameter* parameter;
    std::shared_ptr<Weight> weight;  // null for a plain parameter
    Tensor average;
  };
  double decay_;
  std::vector<Slot> slots_;
};

}  // namespace hone
