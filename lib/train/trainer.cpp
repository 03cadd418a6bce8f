#include "train/trainer.h"

#include <cmath>

namespace hone {

Trainer::Trainer(Transformer& model, BatchSampler& sampler, const StepSettings& settings)
    : model_(model), sampler_(sampler), settings_(settings), optimizer_(model, settings.adamw) {}

StepResult Trainer::step(int64_t step) {
  StepResult result;
  result.learning_rate = settings_.schedule.at(step);
  const int64_t batch = settings_.batch, context = sampler_.context();
  inputs_.resize(static_cast<size_t>(batch * context));
  targets_.resize(inputs_.size());
  const float seed = 1.0f / static_cast<float>(settings_.accumulate);
  for (int64_t micro = 0; micro < settings_.accumulate; ++micro) {
    sampler_.next(inputs_, targets_);
    Forward call;
    call.batch = batch;
    call.length = context;
    call.type = settings_.type;
    call.dropout = settings_.dropout;
    call.attention = settings_.attention;
    // A function of the step alone: a resumed run draws the same.
    call.dropout_seed = mix64(settings_.seed ^ mix64(static_cast<uint64_t>(step * settings_.accumulate + micro)));
    Tape tape;
    const Var hidden = model_.hidden(inputs_, call);
    const ops::TokenLosses loss = model_.loss(hidden, targets_, seed);
    result.loss += static_cast<double>(loss.loss.value().data<float>()[0]) * static_cast<double>(seed);
    result.tokens += batch * context;
    tape.backward(loss.loss, seed);
  }
  result.gradient_norm = optimizer_.gradient_norm();
  if (!std::isfinite(result.loss) || !std::isfinite(result.gradient_norm)) {
    optimizer_.discard_gradients();
    return result;
  }
  const bool clipped = settings_.clip > 0 && result.gradient_norm > settings_.clip;
  optimizer_.step(result.learning_rate, clipped ? settings_.clip / result.gradient_norm : 1.0);
  return result;
}

}  // namespace hone
