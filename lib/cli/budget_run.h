// Quantizing to a budget: what is measured, the search, the model, and what is said of it.
#pragma once

#include "cli/budget_options.h"
#include "compress/budget.h"

namespace hone::cli {

// quantize_to_budget() of checked options, whose texts are read. `settings`: all but calibration, text, bits and
// progress. The exit status.
int run_to_budget(const BudgetParts& parts, const BudgetOptions& options, BudgetSettings settings,
                  const Common& common);

}  // namespace hone::cli
