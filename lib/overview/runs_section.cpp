// What the logs of train hold, and the load of experts in logs and scores.
#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "overview/html.h"
#include "overview/sections.h"

namespace hone {
namespace {

using nlohmann::json;

constexpr int width = 620, height = 340;

Series over_steps(const RunLog& log, const std::string& name, const char* member) {
  Series series{.name = name};
  for (const json& line : log.lines) {
    const double value = number_of(line, member);
    if (!std::isfinite(value)) continue;
    series.x.push_back(number_of(line, "step"));
    series.y.push_back(value);
  }
  return series;
}

// A line for each member of the objects `member`: losses of exits by depth, terms by name.
std::vector<Series> members_over_steps(const RunLog& log, const char* member, const std::string& before) {
  std::vector<Series> all;
  std::map<std::string, size_t> places;
  for (const json& line : log.lines) {
    const auto found = line.find(member);
    if (found == line.end() || !found->is_object()) continue;
    for (const auto& [name, value] : found->items()) {
      if (!value.is_number()) continue;
      const auto [place, added] = places.emplace(name, all.size());
      if (added) all.push_back({.name = before + name});
      all[place->second].x.push_back(number_of(line, "step"));
      all[place->second].y.push_back(value.get<double>());
    }
  }
  return all;
}

std::string figure(const std::string& title, const char* y, std::vector<Series> series, bool from_zero = false) {
  std::erase_if(series, [](const Series& s) { return s.x.empty(); });
  if (series.empty()) return "";
  return html_figure({.title = title,
                      .x = {.label = "step"},
                      .y = {.label = y, .from_zero = from_zero},
                      .series = std::move(series),
                      .width = width,
                      .height = height});
}

// Each layer's load at one time, as shares or counts of its experts.
Plot load_plot(const std::string& title) {
  return {.title = title,
          .x = {.label = "expert", .at_points = true},
          .y = {.label = "tokens / mean of the layer's experts", .from_zero = true},
          .series = {},
          .width = width,
          .height = height};
}

void add_load(Plot& plot, const std::string& name, const json& load) {
  if (!load.is_array() || load.empty()) return;
  double sum = 0;
  for (const json& part : load) sum += part.is_number() ? part.get<double>() : 0;
  if (!(sum > 0)) return;
  Series series{.name = name};
  for (size_t e = 0; e < load.size(); ++e) {
    series.x.push_back(static_cast<double>(e));
    series.y.push_back(load[e].is_number() ? load[e].get<double>() / sum * static_cast<double>(load.size()) : NAN);
  }
  plot.series.push_back(std::move(series));
}

std::string load_of_run(const RunLog& log) {
  Plot plot = load_plot(log.name + ": last step");
  const auto routing = log.lines.back().find("routing");
  if (routing == log.lines.back().end() || !routing->is_array()) return "";
  std::map<int64_t, Series> largest;  // of each layer, over the steps
  for (const json& line : log.lines) {
    const auto layers = line.find("routing");
    if (layers == line.end() || !layers->is_array()) continue;
    for (const json& layer : *layers) {
      Series& series = largest[static_cast<int64_t>(number_of(layer, "layer"))];
      series.x.push_back(number_of(line, "step"));
      series.y.push_back(number_of(layer, "largest_load_over_mean"));
    }
  }
  for (const json& layer : *routing)
    if (layer.is_object() && layer.contains("load"))
      add_load(plot, fmt::format("layer {:.0f}", number_of(layer, "layer")), layer["load"]);
  std::vector<Series> lines;
  for (auto& [layer, series] : largest) {
    series.name = fmt::format("layer {}", layer);
    lines.push_back(std::move(series));
  }
  return (plot.series.empty() ? "" : html_figure(plot)) +
         figure(log.name + ": busiest expert", "tokens / mean", std::move(lines));
}

std::string load_of_row(const json& row) {
  Plot plot = load_plot(std::filesystem::path(text_of(row, "model")).filename().string());
  for (const auto& [name, value] : row.items())
    if (name.starts_with("expert_load_"))
      add_load(plot, "layer " + name.substr(std::string_view("expert_load_").size()), value);
  return plot.series.empty() ? "" : html_figure(plot);
}

std::string figures(const std::string& content) {
  return content.empty() ? "" : "<div class=\"figures\">\n" + content + "</div>\n";
}

}  // namespace

std::string curves_section(const RunFiles& files) {
  std::string content;
  for (const RunLog& log : files.logs) {
    content += figure(log.name + ": loss", "loss (nats/token)",
                      {over_steps(log, "training", "loss"), over_steps(log, "validation", "valid_loss")});
    content += figure(log.name + ": terms of the loss", "nats/token", members_over_steps(log, "terms", ""));
    content +=
        figure(log.name + ": exits", "loss (nats/token)", members_over_steps(log, "exit_losses", "behind layer "));
    content +=
        figure(log.name + ": gradient norm", "norm before clipping", {over_steps(log, "", "gradient_norm")}, true);
  }
  return content.empty() ? "" : html_section("Training", "", figures(content));
}

std::string experts_section(const RunFiles& files) {
  std::string content;
  for (const ResultRows& result : files.scores)
    for (const json& row : result.rows) content += load_of_row(row);
  for (const RunLog& log : files.logs) content += load_of_run(log);
  if (content.empty()) return "";
  return html_section("Experts",
                      "1 is an even load. A line above it is an expert that gets more tokens than its share.",
                      figures(content));
}

}  // namespace hone
