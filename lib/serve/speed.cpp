#include "serve/speed.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "measure/clock.h"
#include "measure/statistics.h"
#include "serve/decoder.h"
#include "serve/sampling.h"

namespace hone {
namespace {

constexpr int64_t warm_tokens = 4;

std::vector<int32_t> prompt_of(std::span<const int32_t> text, int64_t length) {
  if (text.empty()) throw internal_error("no text to measure the speed with");
  std::vector<int32_t> prompt(static_cast<size_t>(length));
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = text[i % text.size()];
  return prompt;
}

}  // namespace

void Speed::add_to(MetricValues& values) const {
  const double total = std::accumulate(token_seconds.begin(), token_seconds.end(), 0.0);
  values["prefill_tokens_per_second"] = static_cast<double>(prompt_tokens) / prefill_seconds;
  values["first_token_ms"] = 1e3 * first_token_seconds;
  if (token_seconds.empty()) return;
  values["decode_tokens_per_second"] = static_cast<double>(token_seconds.size()) / total;
  values["latency_ms_p50"] = 1e3 * percentile(token_seconds, 50);
  values["latency_ms_p95"] = 1e3 * percentile(token_seconds, 95);
  values["latency_ms_p99"] = 1e3 * percentile(token_seconds, 99);
}

Speed measure_speed(Transformer& model, std::span<const int32_t> text, const SpeedSettings& settings) {
  const Config& config = model.config();
  Speed speed;
  speed.generated_tokens = settings.tokens;
  speed.prompt_tokens = std::min(settings.prompt, config.context);
  if (config.block.positions == PositionKind::learned) {
    speed.generated_tokens = std::min(settings.tokens, config.context - 1);
    speed.prompt_tokens = std::min(speed.prompt_tokens, config.context - speed.generated_tokens);
  }
  speed.prompt_tokens = std::max<int64_t>(1, speed.prompt_tokens);
  const std::vector<int32_t> prompt = prompt_of(text, speed.prompt_tokens);

  Decoder decoder(model, 1, speed.prompt_tokens + std::max<int64_t>(1, speed.generated_tokens), settings.type);
  Sampler sampler({.temperature = 0}, Random(0, "sampling"));
  const auto choose = [&](const Tensor& logits) { return sampler.next(logits.span<float>(), {}); };

  int32_t token = choose(decoder.feed(prompt));
  for (int64_t i = 0; i < std::min(warm_tokens, speed.generated_tokens); ++i) token = choose(decoder.feed({&token, 1}));

  std::vector<double> prefill, first;
  const Stopwatch all;
  while (prefill.empty() || (static_cast<int64_t>(prefill.size()) < settings.repetitions && all.seconds() < settings.seconds)) {
    decoder.clear();
    Stopwatch watch;
    const Tensor logits = decoder.feed(prompt);
    prefill.push_back(watch.seconds());
    token = choose(logits);
    first.push_back(watch.seconds());
  }
  speed.prefill_seconds = median(prefill);
  speed.first_token_seconds = median(first);
  Stopwatch watch;
  for (int64_t i = 0; i < speed.generated_tokens; ++i) {
    token = choose(decoder.feed({&token, 1}));
    speed.token_seconds.push_back(watch.lap());
  }
  return speed;
}

}  // namespace hone
