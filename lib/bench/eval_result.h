// What eval measures of one model, and its way from the process that measured it.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/routing_report.h"
#include "report/metric.h"
#include "report/scores.h"

namespace hone {

struct EvalResult {
  MetricValues values;
  ModelRouting routing;
  int64_t speed_prompt = 0, speed_generated = 0;
  std::optional<Comparison> comparison;
  std::vector<WindowScore> answers;  // with --samples: of every answer
};

// Of a row, in order: the metrics of one model, and between them the texts model, attention and tokenizer.
std::vector<std::string> eval_row_columns();
// Of the CSV report, in order: the same whatever models, options and texts a run has.
std::vector<std::string> eval_columns();

// The metric's cell, where it has a value.
void set_value(Row& row, const Metric& metric, const MetricValues& values);

nlohmann::json to_json(const EvalResult& result);
EvalResult eval_result_of(const nlohmann::json& json);

}  // namespace hone
