// The names that reports use, what each means, and how a person likes to see it: one table.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>

namespace hone {

// How a table prints a number; JSON and CSV always carry the full value.
enum class Display {
  plain,     // `digits` significant digits
  fixed,     // `digits` digits after the point
  whole,     // every digit, grouped by thousands
  bytes,     // 4.20 MB
  count,     // 10.7M
  fraction,  // 0.6 as 60.0%, `digits` after the point
};

struct Metric {
  std::string_view name;
  Display display;
  int digits;
  std::string_view unit;        // of the full value, for plots and documentation; may be empty
  std::string_view definition;  // one line
};

std::span<const Metric> metrics();

// The metric of that name or null. A name with one of the suffixes of a comparison (_difference, _ratio, and these with
// _low and _high) is not in the table: split_comparison finds the metric it belongs to.
const Metric* find_metric(std::string_view name);

// "loss_ratio_low" -> "loss" and "_ratio_low"; a name without such a suffix is returned whole with "".
std::pair<std::string_view, std::string_view> split_comparison(std::string_view name);

// True for kl, top1_agreement and the names with a suffix of a comparison, which exist only beside a baseline.
bool needs_baseline(std::string_view name);

// The numbers of one model by metric name.
using MetricValues = std::map<std::string, double, std::less<>>;

}  // namespace hone
