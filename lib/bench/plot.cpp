// Pictures and sentences of what bench measured.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "bench/result.h"
#include "report/plot.h"
#include "report/statistics.h"

namespace hone {
namespace {

using Results = std::vector<BenchResult>;

struct Quantity {
  std::string name;  // of the column
  double (*of)(const BenchResult&);
};

constexpr double missing = std::numeric_limits<double>::quiet_NaN();

double median_or_missing(const std::vector<double>& samples) {
  return samples.empty() ? missing : median(samples);
}

double first_token_ms(const BenchResult& r) {
  return r.generation() ? r.generation()->first_token_ms : missing;
}
double step_ms(const BenchResult& r) {
  return r.training() ? r.training()->step_ms : missing;
}
double attention_ms(const BenchResult& r) {
  return r.training() ? r.training()->attention_ms : r.generation()->attention_ms;
}
double train_rate(const BenchResult& r) {
  return r.training() ? median_or_missing(r.training()->train) : missing;
}
double prefill_rate(const BenchResult& r) {
  return r.generation() ? median_or_missing(r.generation()->prefill) : missing;
}
double decode_rate(const BenchResult& r) {
  return r.generation() ? median_or_missing(r.generation()->decode) : missing;
}

const Quantity times[] = {{"attention_ms", attention_ms}, {"first_token_ms", first_token_ms}, {"step_ms", step_ms}};
const Quantity speeds[] = {{"train_tokens_per_second", train_rate},
                           {"prefill_tokens_per_second", prefill_rate},
                           {"decode_tokens_per_second", decode_rate}};

// What tells the settings of results apart.
Quantity length_of(const Results& results) {
  if (results.front().training())
    return {"context", [](const BenchResult& r) { return static_cast<double>(r.training()->context); }};
  return {"prompt", [](const BenchResult& r) { return static_cast<double>(r.generation()->prompt); }};
}
const Quantity batch = {"batch", [](const BenchResult& r) { return static_cast<double>(r.batch); }};
const Quantity threads = {"threads", [](const BenchResult& r) { return static_cast<double>(r.threads); }};

bool varies(const Results& results, const Quantity& quantity) {
  return std::any_of(results.begin(), results.end(),
                     [&](const BenchResult& r) { return quantity.of(r) != quantity.of(results.front()); });
}

bool several(const Results& results, std::string BenchResult::*text) {
  return std::any_of(results.begin(), results.end(),
                     [&](const BenchResult& r) { return r.*text != results.front().*text; });
}

// `shown` over `x`, a line for each model, kind of attention and each value of the other settings.
Plot plot_of(const Results& results, const Quantity& shown, const Quantity& x) {
  Plot plot;
  plot.title = shown.name;
  plot.x = {.label = x.name + (x.name == batch.name ? " (sequences)" : " (tokens)"),
            .logarithmic = varies(results, x),
            .at_points = true};
  const bool time = shown.name.ends_with("_ms");
  plot.y = {.label = time ? "ms" : "tokens/s", .logarithmic = time, .from_zero = !time};
  std::map<std::string, size_t> places;
  for (const BenchResult& r : results) {
    const std::string attention = several(results, &BenchResult::attention) ? r.attention : "";
    std::string name = attention.empty() || several(results, &BenchResult::model) ? r.model : "";
    if (!attention.empty()) name += (name.empty() ? "" : ", ") + attention;
    for (const Quantity& setting : {length_of(results), batch, threads})
      if (setting.name != x.name && varies(results, setting))
        name += fmt::format(", {} {:.0f}", setting.name, setting.of(r));
    const auto [place, added] = places.emplace(name, plot.series.size());
    if (added) plot.series.push_back({.name = name});
    plot.series[place->second].x.push_back(x.of(r));
    plot.series[place->second].y.push_back(shown.of(r));
  }
  return plot;
}

}  // namespace

std::vector<std::string> crossovers(const std::vector<BenchResult>& results) {
  if (results.empty() || !several(results, &BenchResult::attention) || several(results, &BenchResult::model)) return {};
  const Quantity length = length_of(results);
  if (!varies(results, length) || varies(results, batch) || varies(results, threads)) return {};
  std::map<std::string, std::map<double, double>> by_kind;  // and by length
  for (const BenchResult& r : results) by_kind[r.attention][length.of(r)] = attention_ms(r);
  const std::string first = results.front().attention;
  std::vector<std::string> lines;
  for (const auto& [kinds, own] : by_kind) {
    if (kinds == first) continue;
    double from = 0;  // 0: not yet
    for (const auto& [tokens, ms] : own) {
      if (ms >= by_kind[first][tokens])
        from = 0;
      else if (from == 0)
        from = tokens;
    }
    const double longest = own.rbegin()->first;
    lines.push_back(
        from > 0 ? fmt::format("attention {} is faster than {} from {} {:.0f} on, {:.2f} times at {:.0f}", kinds, first,
                               length.name, from, by_kind[first][longest] / own.at(longest), longest)
                 : fmt::format("attention {} is not faster than {} at {} {:.0f}", kinds, first, length.name, longest));
  }
  return lines;
}

std::string bench_plot(const std::vector<BenchResult>& results) {
  std::vector<Plot> plots;
  std::vector<Quantity> shown;
  if (several(results, &BenchResult::attention)) shown.assign(std::begin(times), std::end(times));
  shown.insert(shown.end(), std::begin(speeds), std::end(speeds));
  for (const Quantity& quantity : shown) {
    if (std::isnan(quantity.of(results.front()))) continue;  // not measured
    const Quantity length = length_of(results);
    if (varies(results, length) || !varies(results, batch)) plots.push_back(plot_of(results, quantity, length));
    if (varies(results, batch)) plots.push_back(plot_of(results, quantity, batch));
  }
  return render_svg(plots);
}

}  // namespace hone
