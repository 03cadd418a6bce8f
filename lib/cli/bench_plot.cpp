#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "cli/bench_models.h"
#include "report/plot.h"

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

bool several(const std::vector<Row>& rows, std::string_view name) {
  return std::any_of(rows.begin(), rows.end(),
                     [&](const Row& row) { return text(row, name) != text(rows.front(), name); });
}

// `rate` over `x`, a line for each model, kind of attention and each value of the other settings.
Plot plot_of(const std::vector<Row>& rows, const std::string& rate, const std::string& x,
             const std::vector<std::string>& settings) {
  Plot plot;
  plot.title = rate;
  plot.x = {
      .label = x + (x == "batch" ? " (sequences)" : " (tokens)"), .logarithmic = varies(rows, x), .at_points = true};
  const bool time = rate.ends_with("_ms");
  plot.y = {.label = time ? "ms" : "tokens/s", .logarithmic = time, .from_zero = !time};
  std::map<std::string, size_t> places;
  for (const Row& row : rows) {
    const std::string attention = several(rows, "attention") ? text(row, "attention") : "";
    std::string name = attention.empty() || several(rows, "model") ? text(row, "model") : "";
    if (!attention.empty()) name += (name.empty() ? "" : ", ") + attention;
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

std::vector<std::string> crossovers(const std::vector<Row>& rows) {
  if (rows.empty() || !several(rows, "attention") || several(rows, "model")) return {};
  const std::string length = number(rows.front(), "context") > 0 ? "context" : "prompt";
  if (!varies(rows, length) || varies(rows, "batch") || varies(rows, "threads")) return {};
  std::map<std::string, std::map<double, double>> times;  // by kind and length
  for (const Row& row : rows) times[text(row, "attention")][number(row, length)] = number(row, "attention_ms");
  const std::string first = text(rows.front(), "attention");
  std::vector<std::string> lines;
  for (const auto& [kinds, own] : times) {
    if (kinds == first) continue;
    double from = 0;  // 0: not yet
    for (const auto& [tokens, ms] : own) {
      if (ms >= times[first][tokens])
        from = 0;
      else if (from == 0)
        from = tokens;
    }
    const double longest = own.rbegin()->first;
    lines.push_back(
        from > 0 ? fmt::format("attention {} is faster than {} from {} {:.0f} on, {:.2f} times at {:.0f}", kinds, first,
                               length, from, times[first][longest] / own.at(longest), longest)
                 : fmt::format("attention {} is not faster than {} at {} {:.0f}", kinds, first, length, longest));
  }
  return lines;
}

std::string bench_plot(const std::vector<Row>& rows) {
  std::vector<Plot> plots;
  std::vector<std::string> shown;
  if (several(rows, "attention")) shown = {"attention_ms", "first_token_ms", "step_ms"};
  for (const char* rate : {"train_tokens_per_second", "prefill_tokens_per_second", "decode_tokens_per_second"})
    shown.emplace_back(rate);
  for (const std::string& rate : shown) {
    if (number(rows.front(), rate) != number(rows.front(), rate)) continue;  // not measured
    const std::string length = number(rows.front(), "context") > 0 ? "context" : "prompt";
    const std::vector<std::string> settings = {length, "batch", "threads"};
    if (varies(rows, length) || !varies(rows, "batch")) plots.push_back(plot_of(rows, rate, length, settings));
    if (varies(rows, "batch")) plots.push_back(plot_of(rows, rate, "batch", settings));
  }
  return render_svg(plots);
}

}  // namespace hone::cli
