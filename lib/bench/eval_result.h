// What eval measures of one model, and its way from the process that measured it.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/routing_report.h"
#include "report/metric.h"
#include "report/scores.h"

namespace hone {

struct EvalResult {
  MetricValues values;
  ModelRouting routing;
  ModelDepth depth;  // of the process that measured it
  int64_t speed_prompt = 0, speed_generated = 0;
  std::string forms;  // of its weights, by spaces
  std::optional<Comparison> comparison;
  std::vector<WindowScore> answers;  // with --samples: of every answer
};

// Of the CSV report, in order: the same whatever models, options and texts a run has.
std::vector<std::string> eval_columns();

// `attention`: the kinds by layer; an empty `tokenizer` is left out.
Row eval_row(const EvalResult& result, const std::string& model, const std::string& attention,
             const std::string& tokenizer);

// Tables show scores as metrics say, those of media too, which a report does not know.
void show_scores(Report& report);

nlohmann::json to_json(std::span<const WindowScore> windows);
std::vector<WindowScore> window_scores_of(const nlohmann::json& json);

nlohmann::json to_json(const ModelRouting& routing);
ModelRouting routing_of(const nlohmann::json& json);

nlohmann::json to_json(const EvalResult& result);
EvalResult eval_result_of(const nlohmann::json& json);

}  // namespace hone
