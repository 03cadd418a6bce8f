// The short measurement of speed that `eval` adds to its scores.
#pragma once

#include <cstdint>

#include "model/transformer.h"
#include "report/metric.h"

namespace hone {

struct EvalSpeed {
  int64_t prompt = 0, generated = 0;  // tokens
  MetricValues values;                // the metrics of speed and latency
};

// One sequence: a prompt of min(context, 512) tokens, then 64, as bench does it (measure/speed.h), a few times while
// that takes less than three seconds, after a run that is not counted. With learned positions, prompt and tokens are
// cut to fit the context. Medians of the repetitions; latencies over all generated tokens.
EvalSpeed measure_speed(const Transformer& model, DType type, kernels::CacheCode code, int64_t chunk, uint64_t seed);

}  // namespace hone
