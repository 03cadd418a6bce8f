#include "bench/eval_speed.h"

#include <algorithm>

#include "base/clock.h"
#include "measure/speed.h"
#include "report/statistics.h"

namespace hone {
namespace {

constexpr int64_t longest_prompt = 512, most_tokens = 64, warm_tokens = 4;
constexpr size_t most_repetitions = 3;
constexpr double enough_seconds = 3;

GenerationShape shape_for(const Config& config, DType type, kernels::CacheCode code, int64_t chunk) {
  GenerationShape shape;
  shape.type = type;
  shape.code = code;
  shape.chunk = chunk;
  shape.prompt = std::min(longest_prompt, config.context);
  const int64_t most = max_positions(config);
  shape.generate = std::min(most_tokens, most - 1);
  shape.prompt = std::min(shape.prompt, most - shape.generate);
  return shape;
}

}  // namespace

EvalSpeed measure_speed(const Transformer& model, DType type, kernels::CacheCode code, int64_t chunk, uint64_t seed) {
  const GenerationShape shape = shape_for(model.config(), type, code, chunk);
  GenerationShape warm = shape;
  warm.generate = std::min(warm_tokens, shape.generate);
  time_generation(model, warm, seed);

  std::vector<double> prefill, decode, step_ms, attention, attention_decode;
  const Stopwatch watch;
  const auto goes_on = [&] {
    const bool wanted = prefill.empty() || (prefill.size() < most_repetitions && watch.seconds() < enough_seconds);
    // Ranks that compute together do so as often as the first of them says.
    return model.ranks() ? model.ranks()->gather(wanted ? "more" : "").front() == "more" : wanted;
  };
  while (goes_on()) {
    const GenerationTimes times = time_generation(model, shape, seed);
    prefill.push_back(times.prefill_seconds);
    decode.push_back(times.decode_seconds());
    attention.push_back(times.attention.seconds);
    attention_decode.push_back(times.step_attention_seconds);
    for (const double seconds : times.step_seconds) step_ms.push_back(1e3 * seconds);
  }
  EvalSpeed speed{shape.prompt, shape.generate, {}};
  speed.values["prefill_tokens_per_second"] = static_cast<double>(shape.prompt) / median(prefill);
  speed.values["first_token_ms"] = 1e3 * median(prefill);
  speed.values["attention_ms"] = 1e3 * median(attention);
  if (shape.generate == 0) return speed;
  speed.values["attention_decode_ms"] = 1e3 * median(attention_decode) / static_cast<double>(shape.generate);
  speed.values["decode_tokens_per_second"] = static_cast<double>(shape.generate) / median(decode);
  speed.values["latency_ms_p50"] = percentile(step_ms, 50);
  speed.values["latency_ms_p95"] = percentile(step_ms, 95);
  speed.values["latency_ms_p99"] = percentile(step_ms, 99);
  return speed;
}

}  // namespace hone
