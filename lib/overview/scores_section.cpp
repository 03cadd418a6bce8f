#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>

#include "base/units.h"
#include "overview/html.h"
#include "overview/sections.h"
#include "report/metric.h"

namespace hone {
namespace {

using nlohmann::json;

// How a column stands against the first model's.
enum class Against { ratio, difference, points, nothing };

struct Column {
  const char* name;
  Against against;
  bool less = false;  // is better; sizes
};
constexpr Column columns[] = {
    {"file_bytes", Against::ratio, true},         {"parameters", Against::nothing},
    {"nonzero_parameters", Against::ratio, true}, {"sparsity", Against::nothing},
    {"weight_bytes", Against::ratio, true},       {"loss", Against::difference, true},
    {"bits_per_byte", Against::difference, true}, {"accuracy", Against::points},
    {"accuracy_by_bytes", Against::points},       {"kl", Against::nothing},
    {"top1_agreement", Against::nothing},         {"prefill_tokens_per_second", Against::ratio},
    {"decode_tokens_per_second", Against::ratio}, {"peak_rss_bytes", Against::ratio, true},
};

std::string shown(const Metric& metric, double value) {
  if (!std::isfinite(value)) return "–";
  switch (metric.display) {
    case Display::bytes:
      return format_bytes(value);
    case Display::count:
    case Display::whole:
      return format_count(value);
    case Display::fraction:
      return format_percent(value, metric.digits);
    case Display::fixed:
      return fmt::format("{:.{}f}", value, metric.digits);
    default:
      return fmt::format("{:.{}g}", value, std::max(metric.digits, 1));
  }
}

// "6.1 times smaller", "+0.0009", "+0.03 points"; with the interval where the scores are paired.
std::string compared(const Column& column, const Metric& metric, const json& row, double value, double first) {
  if (!std::isfinite(value) || !std::isfinite(first)) return "";
  const auto interval = [&](double scale, int digits) {
    const std::string name = std::string(column.name) + "_difference";
    const double low = number_of(row, (name + "_low").c_str()), high = number_of(row, (name + "_high").c_str());
    return std::isfinite(low) && std::isfinite(high)
               ? fmt::format("\n({:+.{}f} to {:+.{}f})", scale * low, digits, scale * high, digits)
               : std::string();
  };
  switch (column.against) {
    case Against::ratio: {
      if (value <= 0 || first <= 0) return "";
      const double ratio = column.less ? first / value : value / first;
      return fmt::format("{}{:.2f}", column.less ? "÷" : "×", ratio);
    }
    case Against::difference: {
      const int digits = metric.display == Display::fixed ? metric.digits : 3;
      return fmt::format("{:+.{}f}", value - first, digits) + interval(1, digits);
    }
    case Against::points:
      return fmt::format("{:+.2f} points", 100 * (value - first)) + interval(100, 2);
    default:
      return "";
  }
}

// "5.30 times smaller", "1.20 times slower".
std::string times(const Column& column, double value, double first) {
  if (!(value > 0) || !(first > 0)) return "";
  const bool better = column.less ? value <= first : value >= first;
  const char* word = column.less ? (better ? "smaller" : "larger") : (better ? "faster" : "slower");
  return fmt::format("{:.2f} times {}", std::max(value, first) / std::min(value, first), word);
}

std::string base_name(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

const ListedModel* model_of_row(const RunFiles& files, const json& row) {
  const std::string name = base_name(text_of(row, "model"));
  for (const ListedModel& model : files.models)
    if (model.name == name && static_cast<double>(model.file_bytes) == number_of(row, "file_bytes")) return &model;
  return nullptr;
}

std::string stage_words(const json& stage) {
  const std::string tool = text_of(stage, "tool");
  std::string words = tool;
  const auto arguments = stage.find("arguments");
  if (arguments != stage.end() && arguments->is_array())
    for (size_t i = 0; i + 1 < arguments->size(); ++i) {
      const json& value = (*arguments)[i + 1];
      const std::string option = (*arguments)[i].is_string() ? (*arguments)[i].get<std::string>() : "";
      const std::string_view name = option.starts_with("--") ? std::string_view(option).substr(2) : "";
      const bool tells = name == "sparsity" || name == "type" || name == "pattern" || name == "structure";
      if (tells && value.is_string()) words += " " + value.get<std::string>();
    }
  return words;
}

size_t stage_count(const RunFiles& files, const json& row) {
  const ListedModel* model = model_of_row(files, row);
  return model && model->lineage.is_array() ? model->lineage.size() : std::numeric_limits<size_t>::max();
}

std::string table_of(const RunFiles& files, const Comparable& group) {
  std::vector<std::string> heads = {"model"};
  std::vector<const Column*> used;
  for (const Column& column : columns)
    if (std::ranges::any_of(group.rows, [&](const json& row) { return std::isfinite(number_of(row, column.name)); })) {
      used.push_back(&column);
      const Metric& metric = *find_metric(column.name);
      std::string head = column.name;
      std::replace(head.begin(), head.end(), '_', ' ');
      const bool unit = !metric.unit.empty() && metric.unit != "bytes" && metric.unit != "tokens/s";
      heads.push_back(unit ? fmt::format("{} ({})", head, metric.unit) : head);
    }
  std::vector<std::vector<HtmlCell>> cells;
  for (const json& row : group.rows) {
    std::vector<HtmlCell> line = {{.text = base_name(text_of(row, "model")), .note = stages_of(files, row)}};
    for (const Column* column : used) {
      const Metric& metric = *find_metric(column->name);
      const double value = number_of(row, column->name);
      const bool first = &row == &group.rows.front();
      line.push_back(
          {.text = shown(metric, value),
           .note = first ? "" : compared(*column, metric, row, value, number_of(group.rows.front(), column->name)),
           .number = true});
    }
    cells.push_back(std::move(line));
  }
  return html_table(heads, cells);
}

// A point a model.
std::string size_over_loss(const Comparable& group) {
  Plot plot{.title = "Size over loss",
            .x = {.label = "file (MB)", .logarithmic = true},
            .y = {.label = "loss (nats/token)"},
            .series = {},
            .width = 620,
            .height = 360};
  for (const json& row : group.rows) {
    const double bytes = number_of(row, "file_bytes"), loss = number_of(row, "loss");
    if (std::isfinite(bytes) && std::isfinite(loss))
      plot.series.push_back({.name = base_name(text_of(row, "model")), .x = {bytes / 1e6}, .y = {loss}});
  }
  return plot.series.size() < 2 ? "" : "<div class=\"figures\">" + html_figure(plot) + "</div>\n";
}

}  // namespace

std::string stages_of(const RunFiles& files, const json& row) {
  const ListedModel* model = model_of_row(files, row);
  std::string text;
  if (model && model->lineage.is_array())
    for (const json& stage : model->lineage)
      if (stage.is_object()) text += (text.empty() ? "" : " → ") + stage_words(stage);
  return text;
}

std::vector<Comparable> comparable_scores(const RunFiles& files) {
  std::vector<Comparable> groups;
  std::map<std::string, size_t> places;
  for (const ResultRows& result : files.scores)
    for (const json& row : result.rows) {
      std::string protocol = text_of(row, "data");
      for (const char* name : {"context", "stride", "limit", "scored", "tokenizer", "precision"}) {
        const double number = number_of(row, name);
        const std::string value = std::isfinite(number) ? fmt::format("{:.0f}", number) : text_of(row, name);
        if (!value.empty()) protocol += fmt::format(", {} {}", name, value);
      }
      const auto [place, added] = places.emplace(protocol, groups.size());
      if (added) groups.push_back({protocol, {}});
      std::vector<json>& rows = groups[place->second].rows;
      const bool again = std::ranges::any_of(rows, [&](const json& other) { return other == row; });
      if (!again) rows.push_back(row);
    }
  for (Comparable& group : groups) {
    const auto rank = [&](const json& row) {
      return std::pair(text_of(row, "model") != text_of(row, "baseline"), stage_count(files, row));
    };
    std::stable_sort(group.rows.begin(), group.rows.end(),
                     [&](const json& a, const json& b) { return rank(a) < rank(b); });
  }
  return groups;
}

std::string scores_section(const RunFiles& files) {
  std::string content;
  for (const Comparable& group : comparable_scores(files))
    content += "<h3>" + html_escaped(group.protocol) + "</h3>\n" + table_of(files, group) + size_over_loss(group);
  if (content.empty()) return "";
  return html_section(
      "Models",
      "Below each number is how it stands against the first model: ÷ how many times smaller, × how many "
      "times faster, and differences, with 95% intervals where both were scored together. Scores are "
      "compared only where text and protocol are the same.",
      content);
}

std::string glance_section(const RunFiles& files) {
  const std::vector<Comparable> groups = comparable_scores(files);
  const auto largest = std::max_element(groups.begin(), groups.end(), [](const Comparable& a, const Comparable& b) {
    return a.rows.size() < b.rows.size();
  });
  if (largest == groups.end() || largest->rows.size() < 2) return "";
  const json& first = largest->rows.front();
  const json& small = *std::min_element(largest->rows.begin(), largest->rows.end(), [](const json& a, const json& b) {
    return number_of(a, "file_bytes") < number_of(b, "file_bytes");
  });
  if (&small == &first) return "";
  std::string items;
  for (const Column& column : columns) {
    const std::string_view name = column.name;
    if (name != "file_bytes" && name != "loss" && name != "accuracy" && name != "decode_tokens_per_second") continue;
    const double value = number_of(small, column.name), before = number_of(first, column.name);
    const Metric& metric = *find_metric(name);
    const std::string against = column.against == Against::ratio
                                    ? times(column, value, before)
                                    : compared(column, metric, json::object(), value, before);
    std::string head(name);
    std::replace(head.begin(), head.end(), '_', ' ');
    if (!against.empty())
      items += fmt::format("<li><b>{}</b><span>{}: {} → {}</span></li>\n", html_escaped(against), html_escaped(head),
                           html_escaped(shown(metric, before)), html_escaped(shown(metric, value)));
  }
  const std::string sentence =
      fmt::format("{} beside {}", base_name(text_of(small, "model")), base_name(text_of(first, "model")));
  return html_section("", sentence, "<ul class=\"glance\">\n" + items + "</ul>\n");
}

}  // namespace hone
