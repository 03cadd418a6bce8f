// Conditions on measured numbers, as `--require` takes them: `accuracy >= 0.98*baseline`, `file_bytes <=
// baseline.file_bytes/6`.
//
//     requirement = sum ("<" | "<=" | ">" | ">=" | "==") sum
//     sum         = product {("+" | "-") product}
//     product     = factor {("*" | "/") factor}
//     factor      = "-" factor | number | name | "baseline" | "baseline." name | "(" sum ")"
//
// A number may carry a unit of base/units.h (4MiB, 98%). A bare `baseline` is the baseline's value of the one metric
// that stands left of the comparison, or right of it where the left has none.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "report/metric.h"

namespace hone {

struct RequirementResult {
  std::string text;
  double left = 0, right = 0;
  bool passed = false;  // false too where either side is NaN
};

class Requirement {
 public:
  // Parses `text`; `known` are the metric names it may use. Throws Error(usage) that shows the position, what was
  // expected there, and the known names; also for a baseline, or a metric that needs one, where `have_baseline` is
  // false.
  Requirement(std::string text, std::span<const std::string_view> known, bool have_baseline);

  const std::string& text() const { return text_; }
  bool uses_baseline() const;

  // Throws Error(usage) for a division by zero and for a metric that `model` or `baseline` has no value of.
  RequirementResult evaluate(const MetricValues& model, const MetricValues& baseline = {}) const;

 private:
  friend class RequirementParser;
  enum class Operation { number, model, baseline, add, subtract, multiply, divide, negate };
  enum class Comparison { less, less_equal, greater, greater_equal, equal };
  struct Step {  // of a stack machine
    Operation operation;
    double number = 0;
    std::string metric = {};
  };
  using Program = std::vector<Step>;

  double run(const Program& program, const MetricValues& model, const MetricValues& baseline) const;

  std::string text_;
  Program left_, right_;
  Comparison comparison_ = Comparison::less;
};

// The names of the metric table, which a Requirement may use by default.
std::vector<std::string_view> metric_names();

// "requirement failed: accuracy >= 0.98*baseline (left 0.52, right 0.5292)" or "requirement met: …".
std::string describe(const RequirementResult& result);

}  // namespace hone
