#include "nn/attention/pattern.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "nn/attention/kinds.h"

namespace hone {
namespace {

struct Row {
  const char* form;  // the name, and what its numbers are; those in brackets may be left out
  const char* example;
  std::shared_ptr<const AttentionPattern> (*make)(const AttentionNumbers&);
};

constexpr Row table[] = {
    {"full", "full", full_attention},
    {"window:SIZE[:SINKS]", "window:24:3", window_attention},
    {"routed:BLOCK:COUNT[:WINDOW]", "routed:64:2:20", routed_attention},
};

std::string name_of(const std::string& form) {
  return form.substr(0, form.find_first_of(":["));
}

std::vector<int64_t> numbers_of(const std::string& name, const std::string& form) {
  std::vector<int64_t> numbers;
  for (size_t colon = name.find(':'); colon != std::string::npos; colon = name.find(':', colon + 1)) {
    const char* begin = name.data() + colon + 1;
    const char* end = name.data() + std::min(name.find(':', colon + 1), name.size());
    int64_t number = 0;
    const auto [stop, error] = std::from_chars(begin, end, number);
    if (begin == end || stop != end || error != std::errc() || number < 0 || number > INT32_MAX)
      throw usage_error("attention '{}': '{}' is not a whole number; write {}", name, std::string(begin, end), form);
    numbers.push_back(number);
  }
  const auto most = static_cast<size_t>(std::count(form.begin(), form.end(), ':'));
  const auto least = most - static_cast<size_t>(std::count(form.begin(), form.end(), '['));
  if (numbers.size() < least || numbers.size() > most)
    throw usage_error("attention '{}' has {} number{}; write {}", name, numbers.size(), numbers.size() == 1 ? "" : "s",
                      form);
  return numbers;
}

}  // namespace

int64_t AttentionPattern::visible_keys(int64_t position) const {
  const kernels::MaskRule r = rule();
  return std::min(position + 1, r.window + r.sinks);
}

std::shared_ptr<const kernels::BlockPlan> AttentionPattern::plan(const AttentionQueries& call) const {
  return kernels::causal_plan({call.dims.queries, call.dims.keys, call.dims.query_offset}, rule());
}

std::shared_ptr<const AttentionPattern> attention_pattern(const std::string& name) {
  for (const Row& row : table)
    if (name.substr(0, name.find(':')) == name_of(row.form)) return row.make({name, numbers_of(name, row.form)});
  throw internal_error("'{}' is no kind of attention", name);
}

std::vector<std::string> attention_kinds() {
  std::vector<std::string> names;
  for (const Row& row : table) names.emplace_back(row.form);
  return names;
}

std::vector<std::string> attention_examples() {
  std::vector<std::string> names;
  for (const Row& row : table) names.emplace_back(row.example);
  return names;
}

void check_attention(const std::string& name, int64_t context) {
  const auto pattern = attention_pattern(name);
  if (context > 0) pattern->check(context);
}

}  // namespace hone
