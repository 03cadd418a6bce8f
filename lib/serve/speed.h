// A short measurement of how fast a model reads a prompt and writes tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "measure/metric.h"
#include "model/transformer.h"

namespace hone {

struct SpeedSettings {
  int64_t prompt = 512;       // tokens of the prompt, at most the model's context
  int64_t tokens = 64;        // generated, one sequence
  int64_t repetitions = 3;    // of the prompt, while they take less than `seconds`
  double seconds = 3;
  DType type = DType::f32;
};

struct Speed {
  int64_t prompt_tokens = 0, generated_tokens = 0;
  double prefill_seconds = 0;           // median of the repetitions
  double first_token_seconds = 0;       // the same with the choice of the first token
  std::vector<double> token_seconds;    // of each generated token: forward pass and greedy choice
  void add_to(MetricValues& values) const;  // the metrics of speed and latency
};

// Reads `text` (repeated where it is too short) as the prompt and continues it greedily. Everything runs once before it is timed,
// so that prepared weights, mapped pages and the caches of the processor are as in steady work. With learned positions, prompt and
// tokens are cut to fit the model's context.
Speed measure_speed(Transformer& model, std::span<const int32_t> text, const SpeedSettings& settings);

}  // namespace hone
