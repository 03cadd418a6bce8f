// What eval measures of one model, and its way from the process that measured it.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "cli/routing_report.h"
#include "report/metric.h"
#include "report/scores.h"

namespace hone::cli {

struct EvalResult {
  MetricValues values;
  ModelRouting routing;
  int64_t speed_prompt = 0, speed_generated = 0;
  std::optional<Comparison> comparison;
  std::vector<WindowScore> answers;  // with --samples: of every answer
};

nlohmann::json to_json(const EvalResult& result);
EvalResult eval_result_of(const nlohmann::json& json);

}  // namespace hone::cli
