#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "base/units.h"
#include "overview/html.h"
#include "overview/sections.h"

namespace hone {
namespace {

using nlohmann::json;

struct Rate {
  const char *name, *words, *unit;
  bool time = false;  // else tokens/s
};
constexpr Rate rates[] = {
    {"attention_ms", "Attention", "ms", true},
    {"first_token_ms", "First token", "ms", true},
    {"prefill_tokens_per_second", "Prefill", "tokens/s"},
    {"decode_tokens_per_second", "Decode", "tokens/s"},
    {"train_tokens_per_second", "Training", "tokens/s"},
};
constexpr const char* settings[] = {"model", "draft", "attention", "prompt", "context", "generate", "batch", "threads"};

// As text, "" where the row has none.
std::string setting_of(const json& row, const char* name) {
  const double number = number_of(row, name);
  if (std::isfinite(number)) return fmt::format("{:.0f}", number);
  const std::string text = text_of(row, name);
  return std::string_view(name) == "model" ? std::filesystem::path(text).filename().string() : text;
}

bool varies(const ResultRows& result, const char* name) {
  return std::ranges::any_of(
      result.rows, [&](const json& row) { return setting_of(row, name) != setting_of(result.rows.front(), name); });
}

bool measured(const ResultRows& result, const char* name) {
  return std::ranges::any_of(result.rows, [&](const json& row) { return std::isfinite(number_of(row, name)); });
}

std::string table_of(const ResultRows& result) {
  std::vector<const char*> told;
  std::vector<std::string> heads;
  for (const char* name : settings)
    if (std::string_view(name) == "model" || varies(result, name)) {
      told.push_back(name);
      heads.emplace_back(name);
    }
  for (const Rate& rate : rates)
    if (measured(result, rate.name)) heads.push_back(fmt::format("{} ({})", rate.words, rate.unit));
  const bool bandwidth = measured(result, "bandwidth_fraction");
  if (bandwidth) heads.emplace_back("of the read bandwidth");
  std::vector<std::vector<HtmlCell>> cells;
  for (const json& row : result.rows) {
    std::vector<HtmlCell> line;
    for (const char* name : told)
      line.push_back({.text = setting_of(row, name), .number = std::isfinite(number_of(row, name))});
    for (const Rate& rate : rates) {
      if (!measured(result, rate.name)) continue;
      const double value = number_of(row, rate.name);
      const std::string ratio_name = std::string(rate.name).substr(0, std::string_view(rate.name).find('_')) + "_ratio";
      const double ratio = rate.time ? NAN : number_of(row, ratio_name.c_str());
      line.push_back({.text = !std::isfinite(value) ? "–"
                              : rate.time           ? fmt::format("{:.4g}", value)
                                                    : format_count(value),
                      .note = std::isfinite(ratio) && ratio != 1 ? fmt::format("×{:.2f}", ratio) : "",
                      .number = true});
    }
    if (bandwidth) {
      const double part = number_of(row, "bandwidth_fraction");
      line.push_back({.text = std::isfinite(part) ? format_percent(part, 1) : "–", .number = true});
    }
    cells.push_back(std::move(line));
  }
  return html_table(heads, cells);
}

// Over lengths, else over sequences at once: a line for each of the other settings. "" where only one was measured.
std::string figures_of(const ResultRows& result) {
  const char* x = nullptr;
  for (const char* name : {"prompt", "context", "batch", "threads"})
    if (!x && varies(result, name) && measured(result, name)) x = name;
  if (!x) return "";
  std::string content;
  for (const Rate& rate : rates) {
    if (!measured(result, rate.name)) continue;
    Plot plot{.title = fmt::format("{} over {}", rate.words, x),
              .x = {.label = x, .logarithmic = true, .at_points = true},
              .y = {.label = rate.unit, .logarithmic = rate.time, .from_zero = !rate.time},
              .series = {},
              .width = 620,
              .height = 340};
    std::map<std::string, size_t> places;
    for (const json& row : result.rows) {
      std::string name;
      for (const char* other : settings) {
        const std::string value = std::string_view(other) == x || !varies(result, other) ? "" : setting_of(row, other);
        const bool named = std::isfinite(number_of(row, other));
        if (!value.empty()) name += (name.empty() ? "" : ", ") + (named ? std::string(other) + " " : "") + value;
      }
      const auto [place, added] = places.emplace(name, plot.series.size());
      if (added) plot.series.push_back({.name = name});
      plot.series[place->second].x.push_back(number_of(row, x));
      plot.series[place->second].y.push_back(number_of(row, rate.name));
    }
    content += html_figure(plot);
  }
  return content.empty() ? "" : "<div class=\"figures\">\n" + content + "</div>\n";
}

// What all rows were measured on.
std::string machine_of(const ResultRows& result) {
  std::string text;
  for (const char* name : {"cpu", "isa", "precision", "threads", "prompt", "generate", "batch"})
    if (!varies(result, name)) {
      const std::string value = setting_of(result.rows.front(), name);
      const bool named = std::string_view(name) != "cpu" && std::string_view(name) != "isa";
      if (!value.empty()) text += (text.empty() ? "" : ", ") + (named ? std::string(name) + " " : "") + value;
    }
  return text;
}

}  // namespace

std::string speeds_section(const RunFiles& files) {
  std::string content;
  for (const ResultRows& result : files.speeds)
    content += "<h3>" + html_escaped(result.name) + "</h3>\n<p>" + html_escaped(machine_of(result)) + "</p>\n" +
               table_of(result) + figures_of(result);
  return content.empty() ? "" : html_section("Speed", "× is against the first model at the same setting.", content);
}

}  // namespace hone
