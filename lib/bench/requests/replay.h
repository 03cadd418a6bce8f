// Requests that come at their times, through an engine: what each waited for, and how full the engine was.
#pragma once

#include <functional>
#include <vector>

#include "bench/requests/arrivals.h"
#include "bench/requests/slo.h"
#include "serve/engine.h"

namespace hone {

// All in seconds since the request came.
struct ServedRequest {
  double began = 0, first_token = 0, done = 0;
  double between = 0;  // tokens, as a mean; 0 for a text of one
};

// The engine behind a step.
struct ReplaySample {
  double seconds = 0, length = 0;  // when the step ended, since the start; and how long it took
  int64_t waiting = 0, running = 0;
  int64_t pages = 0, page_tokens = 0;  // in use
};

struct Replayed {
  double seconds = 0;  // from the first arrival's trace to the last token
  std::vector<ServedRequest> served;
  std::vector<double> gaps;  // between two tokens of a request, of all of them
  std::vector<ReplaySample> samples;
  std::vector<int64_t> too_long;  // numbers of requests that could never run
  int64_t failed = 0, met = 0;    // without finite logits; and those that met the objective
  int64_t written = 0;            // tokens
  int64_t prompt_tokens = 0;      // that came, found in the cache or not
  EngineStats stats;
};

struct ReplaySettings {
  double speed = 1;  // times are divided by it
  int64_t divide = 1;
  uint64_t seed = 1;
  Slo objective;
  std::function<void(size_t done, const EngineStats&)> progress = {};
};

// Through an executor that has computed nothing yet: copies of weights, memory of all sizes and all pages, what first
// requests would else wait for, and those of a server that has run for a while do not. Every sequence is empty again.
// `settings` are complete(), and those of its state.
void warm_up(Executor& executor, const EngineSettings& settings);

// Runs all of them to their ends, by the engine's clock: that of a simulation knows no waiting. Throws Stopped.
Replayed replay(Engine& engine, const Config& config, const std::vector<Arrival>& arrivals,
                const ReplaySettings& settings);

}  // namespace hone
