#include "bench/requests/simulate.h"

#include <algorithm>
#include <utility>

namespace hone {
namespace {

bool layers_keep(const Transformer& model, EngineSettings settings) {
  settings.parallel = 1;
  settings.capacity = settings.cache_tokens = settings.page_rows;
  return model.make_state(state_shape(settings)).keeps();
}

}  // namespace

SimulatedExecutor::SimulatedExecutor(const Transformer& model, const EngineSettings& settings, const StepCosts& costs)
    : config_(model.config()), costs_(costs), state_(state_shape(settings)), keeps_(layers_keep(model, settings)) {}

void SimulatedExecutor::wait_until(double seconds) {
  if (seconds > now_) waited_ = true;
  now_ = std::max(now_, seconds);
}

Tensor SimulatedExecutor::read(std::vector<Span> spans, const Input&, Phase) {
  shape_.behind_wait = std::exchange(waited_, false);
  shape_.behind_piece = shape_.chunk > 0 && !shape_.behind_wait;
  shape_.contexts.clear();
  shape_.chunk = shape_.first = 0;
  for (const Span& span : spans) {
    if (span.phase == Phase::prompt) {
      shape_.chunk = span.count;
      shape_.first = span.first;
      continue;
    }
    for (int64_t token = 0; token < span.count; ++token) shape_.contexts.push_back(span.first + token);
  }
  const std::vector<double>& spread = shape_.chunk > 0 ? costs_.piece_spread : costs_.spread;
  const double factor = spread.empty() ? 1 : spread[random_.below(spread.size())];
  now_ += factor * costs_(shape_);
  return {};
}

Tensor SimulatedExecutor::logits(const Tensor&, Phase) {
  return {};
}

}  // namespace hone
