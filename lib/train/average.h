// Averages of a model's parameters over the steps of a run (Polyak & Juditsky 1992), which often validate better than
// the parameters themselves while the learning rate is high.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/whole_arrays.h"

namespace hone {

// A row of the table in average.cpp.
struct AverageKind {
  std::string_view form;  // as it is written, with its number: "ema:DECAY"
  std::string_view what;  // for people, after the form
  double above, below;    // the number lies between these
  // After step `step` of `steps` (from 1): average = kept * average + (1 - kept) * parameter.
  double (*kept)(double number, int64_t step, int64_t steps);
};
std::span<const AverageKind> average_kinds();

// A kind with its number; by default no average.
struct AverageRule {
  const AverageKind* kind = nullptr;
  double number = 0;

  bool operator==(const AverageRule&) const = default;
  explicit operator bool() const { return kind != nullptr; }
};
// "ema:0.999", "tail:0.2", or nothing. Throws Error(usage) for a name of no kind, or with a number that it cannot have.
AverageRule average_rule(const std::string& text);
std::string to_string(const AverageRule& rule);

class ParameterAverage {
 public:
  // Of a run of so many steps. Keeps references into `model`: weights must not be replaced while it lives. Begins with
  // the parameters as they are.
  ParameterAverage(Transformer& model, const AverageRule& rule, int64_t steps);

  // After step `step` (from 1). What is pruned now is 0 in the average too.
  void add(int64_t step);
  // The model gets the average and this the parameters; twice is as if never.
  void exchange();

  KeptArrays state() const;                                  // by the name of the parameter: shared, not copied
  void restore(const std::map<std::string, Tensor>& state);  // of the whole model; Error(input) where arrays do not fit

 private:
  struct Slot {
    std::string name;
    Parameter* parameter;
    std::shared_ptr<Weight> weight;  // null for a plain parameter
    Tensor average;
    RankPart part;
  };
  AverageRule rule_;
  int64_t steps_;
  std::vector<Slot> slots_;
};

}  // namespace hone
