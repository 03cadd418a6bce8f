#include "nn/attention/pattern.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "base/rows.h"

namespace hone {

// Each in a file of its own, nn/attention/NAME.cpp.
std::shared_ptr<const AttentionPattern> full_attention(const AttentionNumbers& numbers);
std::shared_ptr<const AttentionPattern> window_attention(const AttentionNumbers& numbers);
std::shared_ptr<const AttentionPattern> routed_attention(const AttentionNumbers& numbers);

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

}  // namespace

int64_t AttentionPattern::visible_keys(int64_t position) const {
  const kernels::MaskRule r = rule();
  return std::min(position + 1, r.window + r.sinks);
}

std::shared_ptr<const kernels::BlockPlan> AttentionPattern::plan(const AttentionQueries& call) const {
  return kernels::together_plan({call.dims.queries, call.dims.keys, call.dims.query_offset}, rule(),
                                seen_from(call.dims.keys, call.dims.queries, call.together));
}

std::vector<int32_t> seen_from(int64_t keys, int64_t queries, std::span<const RowRange> together) {
  if (together.empty()) return {};
  std::vector<int32_t> from(static_cast<size_t>(keys));
  std::iota(from.begin(), from.end(), 0);
  for (const RowRange& range : together) {
    const int64_t first = keys - queries + range.first;
    std::fill_n(from.begin() + first, range.count, static_cast<int32_t>(first));
  }
  return from;
}

std::shared_ptr<const AttentionPattern> attention_pattern(const std::string& name) {
  const Row& row = form_called(table, name, "kind of attention");
  return row.make({name, numbers_of("attention", name, row.form)});
}

std::vector<std::string> attention_kinds() {
  return forms_of_rows(table);
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
