#include "report/requirement.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "base/spelling.h"
#include "base/units.h"

namespace hone {
namespace {

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::string list_of(std::span<const std::string_view> names) {
  return fmt::format("{}", fmt::join(names.begin(), names.end(), ", "));
}

}  // namespace

// Recursive descent over the grammar of the header; every rule appends its steps to the program in postfix order.
class RequirementParser {
  using Operation = Requirement::Operation;
  using Program = Requirement::Program;

 public:
  RequirementParser(Requirement& into, std::span<const std::string_view> known, bool have_baseline,
                    const WhyUnmeasured& why)
      : into_(into), text_(into.text_), known_(known), have_baseline_(have_baseline), why_(why) {}

  void parse() {
    sum(into_.left_);
    into_.comparison_ = comparison();
    sum(into_.right_);
    skip_blanks();
    if (at_ != text_.size()) fail("an operator or the end");
    resolve_bare_baselines();
    for (const Program* program : {&into_.left_, &into_.right_}) {
      refuse_comparisons_of_baseline(*program);
      refuse_division_by_zero(*program);
    }
  }

 private:
  static constexpr int deepest = 100;  // of parentheses and signs: a recursion that no person writes ends here

  // `slip`: a name that is not known.
  [[noreturn]] void fail(std::string_view expected, std::string_view slip = "") const {
    const std::vector<std::string> names(known_.begin(), known_.end());
    throw usage_error("requirement '{}', position {}: expected {}, found {}{}; metrics: {}", text_, at_ + 1, expected,
                      found(), did_you_mean(slip, names), list_of(known_));
  }

  std::string found() const {
    return at_ < text_.size() ? fmt::format("'{}'", text_.substr(at_, 20)) : std::string("the end");
  }

  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }

  bool take(std::string_view token) {
    skip_blanks();
    if (text_.substr(at_).substr(0, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }

  Requirement::Comparison comparison() {
    using enum Requirement::Comparison;
    // The longer ones first: "<" would take the front of "<=".
    constexpr std::array<std::pair<std::string_view, Requirement::Comparison>, 5> table = {
        {{"<=", less_equal}, {">=", greater_equal}, {"==", equal}, {"<", less}, {">", greater}}};
    for (const auto& [token, value] : table)
      if (take(token)) return value;
    fail("<, <=, >, >= or ==");
  }

  void sum(Program& program) {
    product(program);
    for (;;) {
      const bool add = take("+");
      if (!add && !take("-")) return;
      product(program);
      program.push_back({add ? Operation::add : Operation::subtract});
    }
  }

  void product(Program& program) {
    factor(program);
    for (;;) {
      const bool multiply = take("*");
      if (!multiply && !take("/")) return;
      factor(program);
      program.push_back({multiply ? Operation::multiply : Operation::divide});
    }
  }

  void factor(Program& program) {
    if (++depth_ > deepest) fail("fewer nested parentheses and signs");
    if (take("-")) {
      factor(program);
      program.push_back({Operation::negate});
    } else if (take("(")) {
      sum(program);
      if (!take(")")) fail("')'");
    } else {
      skip_blanks();
      const char c = at_ < text_.size() ? text_[at_] : '\0';
      if (is_digit(c) || c == '.')
        number(program);
      else if (is_name_start(c))
        name(program);
      else
        fail("a number, a metric, baseline or '('");
    }
    --depth_;
  }

  void number(Program& program) {
    size_t length = 0;
    try {
      program.push_back({Operation::number, parse_leading_number(text_.substr(at_), length)});
    } catch (const Error& error) {
      throw usage_error("requirement '{}', position {}: {}", text_, at_ + 1, error.what());
    }
    at_ += length;
  }

  std::string_view word() {
    const size_t start = at_;
    while (at_ < text_.size() && (is_name_start(text_[at_]) || is_digit(text_[at_]))) ++at_;
    return text_.substr(start, at_ - start);
  }

  void name(Program& program) {
    const size_t start = at_;
    std::string_view metric = word();
    const bool baseline = metric == "baseline";
    if (baseline && !have_baseline_)
      throw usage_error("requirement '{}', position {}: 'baseline' needs a baseline model", text_, start + 1);
    if (baseline && !(at_ < text_.size() && text_[at_] == '.')) {
      program.push_back({Operation::baseline});  // its metric is known once all of the text is read
      return;
    }
    if (baseline) {
      ++at_;
      metric = word();
    }
    if (needs_baseline(metric) && !have_baseline_)
      throw usage_error("requirement '{}', position {}: '{}' needs a baseline model to compare with", text_, start + 1,
                        metric);
    const std::string_view whole = split_comparison(metric).first;  // loss_ratio_high is known where loss is
    if (std::find(known_.begin(), known_.end(), whole) == known_.end()) {
      if (const std::string why = why_ ? why_(whole) : std::string(); !why.empty())
        throw usage_error("requirement '{}', position {}: '{}' {}", text_, start + 1, metric, why);
      at_ -= metric.size();
      fail(baseline ? "a metric after 'baseline.'" : "a metric", metric);
    }
    program.push_back({baseline ? Operation::baseline : Operation::model, 0, std::string(metric)});
  }

  void resolve_bare_baselines() {
    auto names = Requirement::named(into_.left_);
    if (names.empty()) names = Requirement::named(into_.right_);
    for (Program* program : {&into_.left_, &into_.right_})
      for (auto& step : *program) {
        if (step.operation != Operation::baseline || !step.metric.empty()) continue;
        if (names.size() != 1)
          throw usage_error("requirement '{}': 'baseline' could be {}; write baseline.NAME", text_,
                            names.empty() ? "any metric" : fmt::format("of {}", fmt::join(names, " or ")));
        step.metric = *names.begin();
      }
  }

  void refuse_comparisons_of_baseline(const Program& program) const {
    for (const auto& step : program)
      if (step.operation == Operation::baseline && needs_baseline(step.metric))
        throw usage_error("requirement '{}': {} is not measured for the baseline", text_, step.metric);
  }

  // Of numbers alone: what is measured may come out as anything.
  void refuse_division_by_zero(const Program& program) const {
    std::vector<std::optional<double>> stack;  // none: it depends on what is measured
    for (const auto& step : program) {
      if (step.operation == Operation::number) {
        stack.emplace_back(step.number);
      } else if (step.operation == Operation::model || step.operation == Operation::baseline) {
        stack.emplace_back();
      } else if (step.operation == Operation::negate) {
        if (stack.back()) stack.back() = -*stack.back();
      } else {
        const std::optional<double> b = stack.back();
        stack.pop_back();
        if (step.operation == Operation::divide && b == 0.0) throw into_.division_by_zero();
        stack.back() =
            stack.back() && b ? std::optional(Requirement::combine(step.operation, *stack.back(), *b)) : std::nullopt;
      }
    }
  }

  Requirement& into_;
  const std::string_view text_;
  std::span<const std::string_view> known_;
  bool have_baseline_;
  const WhyUnmeasured& why_;
  size_t at_ = 0;
  int depth_ = 0;
};

Requirement::Requirement(std::string text, std::span<const std::string_view> known, bool have_baseline,
                         const WhyUnmeasured& why)
    : text_(std::move(text)) {
  RequirementParser(*this, known, have_baseline, why).parse();
}

std::set<std::string> Requirement::named(const Program& program) {
  std::set<std::string> names;
  for (const Step& step : program)
    if (step.operation == Operation::model) names.insert(step.metric);
  return names;
}

std::set<std::string> Requirement::metrics() const {
  std::set<std::string> names = named(left_);
  names.merge(named(right_));
  return names;
}

Error Requirement::division_by_zero() const {
  return usage_error("requirement '{}': division by zero", text_);
}

double Requirement::combine(Operation operation, double a, double b) {
  return operation == Operation::add        ? a + b
         : operation == Operation::subtract ? a - b
         : operation == Operation::multiply ? a * b
                                            : a / b;
}

double Requirement::run(const Program& program, const MetricValues& model, const MetricValues& baseline) const {
  std::vector<double> stack;
  const auto pop = [&] {
    const double value = stack.back();
    stack.pop_back();
    return value;
  };
  const auto look_up = [&](const MetricValues& values, const std::string& metric, std::string_view whose) {
    const auto found = values.find(metric);
    if (found == values.end())
      throw usage_error("requirement '{}': {} was not measured for the {}", text_, metric, whose);
    return found->second;
  };
  for (const Step& step : program) {
    switch (step.operation) {
      case Operation::number:
        stack.push_back(step.number);
        continue;
      case Operation::model:
        stack.push_back(look_up(model, step.metric, "model"));
        continue;
      case Operation::baseline:
        stack.push_back(look_up(baseline, step.metric, "baseline"));
        continue;
      case Operation::negate:
        stack.back() = -stack.back();
        continue;
      default:
        break;
    }
    const double b = pop(), a = pop();
    if (step.operation == Operation::divide && b == 0) throw division_by_zero();
    stack.push_back(combine(step.operation, a, b));
  }
  return stack.back();
}

RequirementResult Requirement::evaluate(const MetricValues& model, const MetricValues& baseline) const {
  RequirementResult result{text_, run(left_, model, baseline), run(right_, model, baseline), false};
  const double a = result.left, b = result.right;
  switch (comparison_) {
    case Comparison::less:
      result.passed = a < b;
      break;
    case Comparison::less_equal:
      result.passed = a <= b;
      break;
    case Comparison::greater:
      result.passed = a > b;
      break;
    case Comparison::greater_equal:
      result.passed = a >= b;
      break;
    case Comparison::equal:
      result.passed = a == b;
      break;
  }
  return result;
}

std::string describe(const RequirementResult& result) {
  std::string left = fmt::format("{:.6g}", result.left), right = fmt::format("{:.6g}", result.right);
  if (left == right && result.left != result.right) {  // what decided must show
    left = fmt::format("{}", result.left);
    right = fmt::format("{}", result.right);
  }
  return fmt::format("requirement {}: {} (left {}, right {})", result.passed ? "met" : "failed", result.text, left,
                     right);
}

}  // namespace hone
