// What differs between two model files.
#pragma once

#include "cli/inspect_model.h"
#include "report/report.h"

namespace hone::cli {

// A row for everything that differs, none for equal models. Columns: part (config, tokenizer, lineage, parameter),
// name, difference (what kind), a, b (the two values in words); of parameters with other numbers also differing
// (elements), max_abs_difference, mask_changes (elements that one mask keeps and the other does not; without a mask all
// are kept), zeros_a and zeros_b.
Report compare_models(const InspectedModel& a, const InspectedModel& b);

}  // namespace hone::cli
