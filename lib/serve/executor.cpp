#include "serve/executor.h"

#include <chrono>
#include <thread>

#include "base/clock.h"
#include "model/reading.h"
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

ModelExecutor::ModelExecutor(const Transformer& model, const EngineSettings& settings)
    : model_(model),
      type_(settings.type),
      state_(model.make_state(state_shape(settings))),
      mixes_(products_alike(model, settings.type)) {}

double ModelExecutor::now() const {
  return seconds_now();
}

void ModelExecutor::wait_until(double seconds) {
  const double left = seconds - seconds_now();
  if (left > 0) std::this_thread::sleep_for(std::chrono::duration<double>(left));
}

Tensor ModelExecutor::read(std::vector<Span> spans, std::span<const int32_t> ids, Phase phase) {
  return hidden_states(model_, ids, std::move(spans), {.type = type_, .products = phase}, &state_);
}

Tensor ModelExecutor::logits(const Tensor& hidden, Phase phase) {
  const NoTape pause;
  const kernels::RowsScope rows(rows_as(phase));
  return model_.logits(hidden);
}

}  // namespace hone
