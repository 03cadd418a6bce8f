// bench --plan: what a step would take on many ranks, said as KEY=VALUE,KEY=VALUE,…
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/plan.h"
#include "report/report.h"

namespace hone::cli {

inline constexpr const char* plan_help =
    "Predict a training step on many ranks, from a shape and what ranks and network can do: KEY=VALUE,…, as in "
    "ranks=64,tensor=8,layers=80,dim=8192,network=12.5G; repeat it to compare several";

// What is asked of one plan.
struct PlanSpec {
  std::string text;  // as it was given
  PlanLayout layout;
  Config config;
  PlanMachine machine;
  double efficiency = 1;  // part of the products' rate that is reached
  double memory = 0;      // bytes of a rank; 0: not said
  double tokens = 0;      // of a whole run; 0: not said
  double price = 0;       // of a rank's hour; 0: not said
};

// `model`: the configuration of a model file, or none: the plan has a shape of its own. Error(usage) for unknown keys,
// values that are no numbers, and shapes and layouts that cannot be.
PlanSpec parse_plan(const std::string& text, const Config* model);

// The products' rate and the memory's, where a plan does not say them: this machine's ceilings with so many threads.
void measure_what_is_missing(std::vector<PlanSpec>& plans, int threads, bool refresh);

Report plan_report(const std::vector<PlanSpec>& plans);

}  // namespace hone::cli
