// What scores are reported as: the table of report/metric.h, and what the table of media adds to it.
#pragma once

#include <span>

#include "report/metric.h"

namespace hone {

// metrics(), and for each mixture of media the accuracy of the examples with it, as add_kinds() names it, and its
// standard error: behind those of questions.
std::span<const Metric> scored_metrics();

}  // namespace hone
