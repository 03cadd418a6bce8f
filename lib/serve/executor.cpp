#include "serve/executor.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "base/memory_limit.h"
#include "base/stop.h"
#include "model/reading.h"
#include "model/size.h"
#include "serve/engine.h"

namespace hone {
namespace {

// kernels::packed_sides_agree of every weight.
bool products_alike(const Transformer& model, DType type) {
  struct Alike : Reader {
    explicit Alike(DType of) : type(of) {}
    void weight(const ParameterInfo&, const Weight& weight) override {
      const auto packed = weight.packed(type);
      alike = alike && (!packed || kernels::packed_sides_agree(*packed, type));
    }
    void parameter(const ParameterInfo&, const Parameter&) override {}
    DType type;
    bool alike = true;
  } reader(type);
  model.visit(reader);
  return reader.alike;
}

}  // namespace

StateShape state_shape(const EngineSettings& s) {
  StateShape shape;
  shape.sequences = s.parallel;
  shape.capacity = s.capacity;
  shape.type = s.type;
  shape.take_back = most_drafted;  // as generate(): the order of rows in a ring must be the same
  shape.code = s.code;
  shape.pages = s.cache_tokens / s.page_rows;
  shape.page_rows = s.page_rows;
  return shape;
}

int64_t pages_in_memory(const Config& config, EngineSettings s, double share) {
  const double left = share * std::min(memory_limit().bytes, 1e15);
  const bool all = s.capacity == 0;
  const auto fits = [&](int64_t pages) {
    s.cache_tokens = pages * s.page_rows;
    if (all) s.capacity = s.cache_tokens;
    const double a_text = static_cast<double>(s.capacity) / static_cast<double>(s.page_rows);
    const double table = static_cast<double>(s.parallel) * a_text * sizeof(int32_t);
    return cache_bytes(config, state_shape(s)) + table <= left;
  };
  int64_t low = 1, high = INT32_MAX / s.page_rows + 1;  // the first is taken whatever it needs, the last never
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

ModelExecutor::ModelExecutor(const Transformer& model, const EngineSettings& settings)
    : model_(model),
      type_(settings.type),
      state_(model.make_state(state_shape(settings))),
      mixes_(products_alike(model, settings.type)) {}

double ModelExecutor::now() const {
  return seconds_now();
}

void ModelExecutor::wait_until(double seconds) {
  constexpr double most = 0.05;  // then a signal is looked for
  for (double left = seconds - seconds_now(); left > 0 && !stop_wanted(); left = seconds - seconds_now())
    std::this_thread::sleep_for(std::chrono::duration<double>(std::min(left, most)));
}

Tensor ModelExecutor::read(std::vector<Span> spans, const Input& rows, Phase phase) {
  return hidden_states(model_, rows, std::move(spans), {.type = type_, .products = phase}, &state_);
}

Tensor ModelExecutor::logits(const Tensor& hidden, Phase phase) {
  const NoTape pause;
  const kernels::RowsScope rows(rows_as(phase));
  return model_.logits(hidden);
}

}  // namespace hone
