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

#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "report/metric.h"

namespace hone {

struct RequirementResult {
  std::string text;
  double left = 0, right = 0;
  bool passed = false;  // false too where either side is NaN
};

// What a metric that is not measured here asks for: "is measured with --speed"; "" where that cannot be said.
using WhyUnmeasured = std::function<std::string(std::string_view metric)>;

class Requirement {
 public:
  // Parses `text`; `known` are the metric names it may use. Throws Error(usage) that shows the position, what was
  // expected there, and the known names, or what `why` says of a metric that is none of them; also for a baseline, or a
  // metric that needs one, where `have_baseline` is false, for what a baseline has none of, and for a division by a
  // number that is 0.
  Requirement(std::string text, std::span<const std::string_view> known, bool have_baseline,
              const WhyUnmeasured& why = {});

  const std::string& text() const { return text_; }
  std::set<std::string> metrics() const;  // of the model, not the baseline

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

  static std::set<std::string> named(const Program& program);
  static double combine(Operation operation, double a, double b);
  Error division_by_zero() const;
  double run(const Program& program, const MetricValues& model, const MetricValues& baseline) const;

  std::string text_;
  Program left_, right_;
  Comparison comparison_ = Comparison::less;
};

// "requirement failed: accuracy >= 0.98*baseline (left 0.52, right 0.5292)" or "requirement met: …".
std::string describe(const RequirementResult& result);

}  // namespace hone
