#include "bench/eval_result.h"

#include <algorithm>
#include <cmath>

#include "measure/metrics.h"

namespace hone {
namespace {

using nlohmann::json;
// Columns of texts, each before a metric.
constexpr std::pair<std::string_view, std::string_view> texts[] = {
    {"attention_fraction", "attention"}, {"questions", "tokenizer"}, {"file_bytes", "model"}};

// Of a row, in order: the metrics of one model, and the texts between them.
std::vector<std::string> row_columns() {
  std::vector<std::string> names;
  for (const Metric& metric : scored_metrics()) {
    if (metric.origin == Origin::none || metric.origin == Origin::run || metric.origin == Origin::comparison) continue;
    for (const auto& [before, text] : texts)
      if (before == metric.name) names.emplace_back(text);
    names.emplace_back(metric.name);
  }
  return names;
}

// The metric's cell, where it has a value.
void set_value(Row& row, const Metric& metric, const MetricValues& values) {
  const auto found = values.find(metric.name);
  if (found == values.end()) return;
  if (metric.whole)
    row.set(metric.name, std::llround(found->second));
  else
    row.set(metric.name, found->second);
}

json numbers_of(const Interval& i) {
  return {i.estimate, i.low, i.high};
}

Interval interval_of(const json& j) {
  return {j[0].get<double>(), j[1].get<double>(), j[2].get<double>()};
}

json json_of(const Comparison& comparison) {
  json metrics = json::array();
  for (const MetricComparison& m : comparison.metrics)
    metrics.push_back({std::string(m.metric), numbers_of(m.difference), numbers_of(m.ratio)});
  return {{"metrics", metrics},
          {"kl", numbers_of(comparison.kl)},
          {"top1_agreement", numbers_of(comparison.top1_agreement)}};
}

Comparison comparison_of(const json& j) {
  Comparison comparison;
  for (const json& m : j.at("metrics"))  // a name of the metric table, which outlives this
    comparison.metrics.push_back(
        {find_metric(m[0].get_ref<const std::string&>())->name, interval_of(m[1]), interval_of(m[2])});
  comparison.kl = interval_of(j.at("kl"));
  comparison.top1_agreement = interval_of(j.at("top1_agreement"));
  return comparison;
}

json json_of(const LayerRouting& r) {
  return {r.tokens, r.load, r.dropped, r.entropy, r.balance_loss, r.z_loss, r.calls};
}

LayerRouting layer_of(const json& j) {
  LayerRouting r;
  r.tokens = j.at(0).get<int64_t>();
  r.load = j.at(1).get<std::vector<int64_t>>();
  r.dropped = j.at(2).get<int64_t>();
  r.entropy = j.at(3).get<double>();
  r.balance_loss = j.at(4).get<double>();
  r.z_loss = j.at(5).get<double>();
  r.calls = j.at(6).get<int64_t>();
  return r;
}

}  // namespace

std::vector<std::string> eval_columns() {
  std::vector<std::string> names = row_columns();
  const auto with_ends = [&](const std::string& name) {
    for (const char* end : {"", "_low", "_high"}) names.push_back(name + end);
  };
  for (const Metric& metric : metrics())
    if (metric.compared)
      for (const char* suffix : {"_difference", "_ratio"}) with_ends(std::string(metric.name) + suffix);
  for (const Metric& metric : metrics())
    if (metric.origin == Origin::comparison) with_ends(std::string(metric.name));
  for (const char* name : {"speed_prompt_tokens", "speed_generated_tokens", "data", "context", "scored", "stride",
                           "limit", "few_shot", "precision", "baseline", "threads", "isa", "seed"})
    names.emplace_back(name);
  return names;
}

Row eval_row(const EvalResult& result, const std::string& model, const std::string& attention,
             const std::string& tokenizer) {
  Row row;
  for (const std::string& name : row_columns()) {
    const auto metric = std::ranges::find(scored_metrics(), std::string_view(name), &Metric::name);
    if (metric != scored_metrics().end()) set_value(row, *metric, result.values);
    if (name == "model") row.set(name, model);
    if (name == "attention") row.set(name, attention);
    if (name == "tokenizer" && !tokenizer.empty()) row.set(name, tokenizer);
    if (name == "dropped_tokens") set_routing(row, result.routing);  // and its details
  }
  if (result.comparison) row.set_comparison(*result.comparison);
  return row;
}

void show_scores(Report& report) {
  for (const Report::Column& column : std::vector<Report::Column>(report.columns()))
    for (const Metric& metric : scored_metrics())
      if (metric.name == column.name) report.show(column.name, metric.display, metric.digits);
}

json to_json(std::span<const WindowScore> windows) {
  json j = json::array();
  for (const WindowScore& w : windows)
    j.push_back({w.loss, w.correct, w.tokens, w.bytes, w.trials, w.correct_by_bytes});
  return j;
}

std::vector<WindowScore> window_scores_of(const json& j) {
  std::vector<WindowScore> windows;
  for (const json& w : j)
    windows.push_back({.loss = w.at(0).get<double>(),
                       .correct = w.at(1).get<int64_t>(),
                       .tokens = w.at(2).get<int64_t>(),
                       .bytes = w.at(3).get<int64_t>(),
                       .trials = w.at(4).get<int64_t>(),
                       .correct_by_bytes = w.at(5).get<int64_t>()});
  return windows;
}

json to_json(const ModelRouting& routing) {
  json j = json::array();
  for (const LayerRouting& layer : routing) j.push_back(json_of(layer));
  return j;
}

ModelRouting routing_of(const json& j) {
  ModelRouting routing;
  for (const json& layer : j) routing.push_back(layer_of(layer));
  return routing;
}

json to_json(const EvalResult& result) {
  json j = {{"values", json::object()},
            {"routing", to_json(result.routing)},
            {"speed", {result.speed_prompt, result.speed_generated}},
            {"forms", result.forms},
            {"answers", json::array()}};
  for (const auto& [name, value] : result.values) j["values"][name] = value;
  if (result.comparison) j["comparison"] = json_of(*result.comparison);
  j["answers"] = to_json(std::span<const WindowScore>(result.answers));
  return j;
}

EvalResult eval_result_of(const json& j) {
  EvalResult result;
  for (const auto& [name, value] : j.at("values").items()) result.values[name] = value.get<double>();
  result.routing = routing_of(j.at("routing"));
  result.speed_prompt = j.at("speed")[0].get<int64_t>();
  result.speed_generated = j.at("speed")[1].get<int64_t>();
  if (j.contains("comparison")) result.comparison = comparison_of(j["comparison"]);
  result.forms = j.at("forms").get<std::string>();
  result.answers = window_scores_of(j.at("answers"));
  return result;
}

}  // namespace hone
