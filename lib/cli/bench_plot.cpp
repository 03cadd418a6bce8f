#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "cli/bench_models.h"
#include "measure/plot.h"

namespace hone::cli {
namespace {

double number(const Row& row, std::string_view name) {
  for (const auto& [key, cell] : row.cells()) {
    if (key != name) continue;
    if (const auto* whole = std::get_if<int64_t>(&cell)) return static_cast<double>(*whole);
    if (const auto* real = std::get_if<double>(&cell)) return *real;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

std::string text(const Row& row, std::string_view name) {
  for (const auto& [key, cell] : row.cells())
    if (const auto* value = std::get_if<std::string>(&cell); key == name && value) return *value;
  return {};
}

// Of the columns that tell the settings of a row apart, how many differ between rows.
bool varies(const std::vector<Row>& rows, std::string_view name) {
  return std::any_of(rows.begin(), rows.end(),
                     [&](const Row& row) { return number(row, name) != number(rows.front(), name); });
}

// `rate` over `x`, a line for each model and each value of the other settings.
Plot plot_of(const std::vector<Row>& rows, const std::string& rate, const std::string& x,
             const std::vector<std::string>& settings) {
  Plot plot;
  plot.title = rate;
  plot.x = {.label = x + (x == "batch" ? " (sequences)" : " (tokens)"), .logarithmic = varies(rows, x)};
  plot.y = {.label = "tokens/s", .from_zero = true};
  std::map<std::string, size_t> places;
  for (const Row& row : rows) {
    std::string name = text(row, "model");
    for (const std::string& setting : settings)
      if (setting != x && varies(rows, setting)) name += fmt::format(", {} {:.0f}", setting, number(row, setting));
    const auto [place, added] = places.emplace(name, plot.series.size());
    if (added) plot.series.push_back({.name = name});
    plot.series[place->second].x.push_back(number(row, x));
    plot.series[place->second].y.push_back(number(row, rate));
  }
  return plot;
}

}  // namespace

std::string bench_plot(const std::vector<Row>& rows) {
  std::vector<Plot> plots;
  for (const std::string rate : {"train_tokens_per_second", "prefill_tokens_per_second", "decode_tokens_per_second"}) {
    if (number(rows.front(), rate) != number(rows.front(), rate)) continue;  // not measured
    const std::string length = rate.starts_with("train") ? "context" : "prompt";
    const std::vector<std::string> settings = {length, "batch", "threads"};
    if (varies(rows, length) || !varies(rows, "batch")) plots.push_back(plot_of(rows, rate, length, settings));
    if (varies(rows, "batch")) plots.push_back(plot_of(rows, rate, "batch", settings));
  }
  return render_svg(plots);
}

}  // namespace hone::cli
