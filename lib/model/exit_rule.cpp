#include "model/exit_rule.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/rows.h"

namespace hone {
namespace {

// Of the most probable token over the one behind it ("softmax response", Schuster et al., arXiv 2207.07061, section
// 3.5).
double gap(const ExitSeen& seen) {
  float first = -INFINITY, second = -INFINITY;
  for (const float logit : seen.logits) {
    if (logit > first) {
      second = first;
      first = logit;
    } else {
      second = std::max(second, logit);
    }
  }
  double sum = 0;
  for (const float logit : seen.logits) sum += static_cast<double>(std::exp(logit - first));
  return (1 - std::exp(static_cast<double>(second - first))) / sum;
}

// In nats.
double entropy(const ExitSeen& seen) {
  const float highest = *std::max_element(seen.logits.begin(), seen.logits.end());
  double sum = 0, weighted = 0;
  for (const float logit : seen.logits) {
    const auto x = static_cast<double>(logit - highest), weight = std::exp(x);
    sum += weight;
    if (weight > 0) weighted += weight * x;
  }
  return std::log(sum) - weighted / sum;
}

// The cosine between the hidden states here and at the exit before ("hidden-state saturation", the same section, there
// of neighbouring layers). The first exit has nothing to compare with, and -1 is below every threshold.
double saturation(const ExitSeen& seen) {
  if (seen.before.empty()) return -1;
  double both = 0, here = 0, before = 0;
  for (size_t i = 0; i < seen.hidden.size(); ++i) {
    const auto x = static_cast<double>(seen.hidden[i]), y = static_cast<double>(seen.before[i]);
    both += x * y;
    here += x * x;
    before += y * y;
  }
  return here > 0 && before > 0 ? both / std::sqrt(here * before) : -1;
}

constexpr ExitCriterion table[] = {
    {"gap", "gap:PROBABILITY", 0, 1, false, gap},
    {"entropy", "entropy:NATS", 0, 20, true, entropy},
    {"saturation", "saturation:COSINE", 0, 1, false, saturation},
};

}  // namespace

std::span<const ExitCriterion> exit_criteria() {
  return table;
}

const ExitCriterion& exit_criterion(const std::string& name) {
  return row_called(table, name, "criterion of exits");
}

std::string exit_forms() {
  return fmt::format("{}", fmt::join(forms_of_rows(table), ", "));
}

ExitRule parse_exit_rule(const std::string& text) {
  const size_t colon = text.find(':');
  const ExitCriterion& criterion = exit_criterion(text.substr(0, colon));
  double number = 0;
  const char* const begin = colon == std::string::npos ? text.data() + text.size() : text.data() + colon + 1;
  const auto [stop, failure] = std::from_chars(begin, text.data() + text.size(), number);
  if (failure != std::errc() || stop != text.data() + text.size())
    throw usage_error("exit '{}': write {}", text, criterion.form);
  if (!(number >= criterion.least && number <= criterion.most))
    throw usage_error("exit '{}': the number of {} must be between {} and {}", text, criterion.name, criterion.least,
                      criterion.most);
  return {&criterion, number};
}

std::string to_string(const ExitRule& rule) {
  return fmt::format("{}:{:.6g}", rule.criterion->name, rule.threshold);
}

}  // namespace hone
