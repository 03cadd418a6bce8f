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

// What gives a metric its value when models are scored.
enum class Origin {
  none,        // not known then: of training or benchmarks
  model,       // the model
  run,         // the run, the same for all its models: threads, seed
  text,        // scores on a text
  answers,     // of answers alone,
  choices,     // or of questions with several
  routing,     // mixtures of experts
  depth,       // routers of depth
  speed,       // a measurement of speed
  memory,      // a process of the model's own
  comparison,  // a baseline
};

struct Metric {
  std::string_view name;
  Display display;
  int digits;
  std::string_view unit;        // of the full value, for plots and documentation; may be empty
  std::string_view definition;  // one line
  Origin origin = Origin::none;
  bool whole = false;     // a whole number, as JSON and CSV have it
  bool compared = false;  // with a baseline: NAME_difference and NAME_ratio
};

// In the order of a report of scores.
std::span<const Metric> metrics();

// The metric of that name or null. A name with one of the suffixes of a comparison (_difference, _ratio, and these with
// _low and _high) is not in the table: split_comparison finds the metric it belongs to.
const Metric* find_metric(std::string_view name);

// "loss_ratio_low" -> "loss" and "_ratio_low", "kl_low" -> "kl" and "_low"; a name without a suffix that its metric has
// ("loss_low", "seed_ratio") is returned whole with "".
std::pair<std::string_view, std::string_view> split_comparison(std::string_view name);

// True for kl, top1_agreement and the names with a suffix of a comparison, which exist only beside a baseline.
bool needs_baseline(std::string_view name);

// The numbers of one model by metric name.
using MetricValues = std::map<std::string, double, std::less<>>;

}  // namespace hone
