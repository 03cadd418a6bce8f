#include "report/report.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/version.h"
#include "report/printers.h"

namespace hone {
namespace {

using Printer = std::string (*)(const Report&);

constexpr std::array<std::pair<std::string_view, Printer>, 5> formats = {
    {{"table", print_table}, {"json", print_json}, {"jsonl", print_jsonl}, {"csv", print_csv}, {"md", print_markdown}}};

Report::Column column_named(std::string_view name) {
  const auto [metric, suffix] = split_comparison(name);
  const Metric* known = find_metric(metric);
  if (!known) return {.name = std::string(name), .display = name.ends_with("_bytes") ? Display::bytes : Display::plain};
  const bool ratio = suffix.starts_with("_ratio"), end = suffix.ends_with("_low") || suffix.ends_with("_high");
  return {.name = std::string(name),
          .display = ratio ? Display::fixed : known->display,
          .digits = ratio ? 4 : known->digits,
          .detail = end};
}

// Calls f(name, value) for everything a comparison prints.
template <class F>
void each_value(const Comparison& comparison, F&& f) {
  const auto interval = [&](const std::string& name, const Interval& x) {
    f(name, x.estimate);
    f(name + "_low", x.low);
    f(name + "_high", x.high);
  };
  for (const MetricComparison& metric : comparison.metrics) {
    interval(fmt::format("{}_difference", metric.metric), metric.difference);
    interval(fmt::format("{}_ratio", metric.metric), metric.ratio);
  }
  interval("kl", comparison.kl);
  interval("top1_agreement", comparison.top1_agreement);
}

}  // namespace

Row& Row::set_cell(std::string_view name, Cell value) {
  const auto found = std::find_if(cells_.begin(), cells_.end(), [&](const auto& entry) { return entry.first == name; });
  if (found != cells_.end())
    found->second = std::move(value);
  else
    cells_.emplace_back(name, std::move(value));
  return *this;
}

Row& Row::set_comparison(const Comparison& comparison) {
  // Missing, which is no failure as a metric that is not a number is: the ends of an interval without a width, of one
  // window, and what was not measured, which is known by the agreement, a count.
  const bool diverged = !std::isnan(comparison.top1_agreement.estimate);
  each_value(comparison, [&](const std::string& name, double value) {
    const bool end = name.ends_with("_low") || name.ends_with("_high");
    const bool optional = end || (!diverged && (name == "kl" || name == "top1_agreement"));
    if (optional && std::isnan(value))
      set_cell(name, std::monostate());
    else
      set(name, value);
  });
  return *this;
}

void add_comparison(MetricValues& values, const Comparison& comparison) {
  each_value(comparison, [&](const std::string& name, double value) { values[name] = value; });
}

void Report::add(const Row& row) {
  std::vector<Cell> cells;
  for (const auto& [name, value] : row.cells()) {
    const size_t at = column_at(name);
    if (cells.size() <= at) cells.resize(at + 1);
    cells[at] = value;
  }
  rows_.push_back(std::move(cells));
}

void Report::show(std::string_view name, Display display, int digits) {
  Column& column = columns_[column_at(name)];
  column.display = display;
  column.digits = digits;
}

void Report::show_detail(std::string_view name) {
  columns_[column_at(name)].detail = true;
}

const Cell& Report::cell(size_t row, size_t column) const {
  static const Cell missing;
  const auto& cells = rows_[row];
  return column < cells.size() ? cells[column] : missing;
}

size_t Report::column_at(std::string_view name) {
  const auto found =
      std::find_if(columns_.begin(), columns_.end(), [&](const Column& column) { return column.name == name; });
  if (found != columns_.end()) return static_cast<size_t>(found - columns_.begin());
  columns_.push_back(column_named(name));
  return columns_.size() - 1;
}

Format format_named(std::string_view name) {
  for (size_t i = 0; i < formats.size(); ++i)
    if (formats[i].first == name) return static_cast<Format>(i);
  throw usage_error("unknown format '{}'; use {}", name, format_list());
}

std::string format_list() {
  std::string list;
  for (size_t i = 0; i < formats.size(); ++i)
    list += fmt::format("{}{}", i == 0 ? "" : i + 1 == formats.size() ? " or " : ", ", formats[i].first);
  return list;
}

std::string render(const Report& report, Format format) {
  return formats[static_cast<size_t>(format)].second(report);
}

}  // namespace hone
