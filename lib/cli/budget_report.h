// What a run to a budget shows: the types that it considered, and the losses over bytes.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "compress/activations.h"
#include "compress/budget.h"
#include "report/plot.h"
#include "report/report.h"

namespace hone::cli {

// "int4:32": an element with its group.
std::string type_name(const TypeCandidate& candidate);

// `chosen`: of each layer, a candidate; `prepared`: of a weight, the number of each preparation; `activations`:
// what was chosen for theirs, if it was asked for.
Report considered_types(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen,
                        const std::map<std::string, std::map<std::string, double>>& prepared,
                        const std::optional<ActivationChoice>& activations);
Report chosen_types(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen,
                    const std::optional<ActivationChoice>& activations);

// Measured losses of models that are alike in all weights (one at least), what the search expects at their sizes behind
// a loss of `before`, and the loss `after` of what was chosen.
Plot budget_plot(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen, std::vector<Series> alike,
                 double before, double after);

}  // namespace hone::cli
