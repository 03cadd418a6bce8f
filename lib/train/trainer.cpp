#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "ops/mixture.h"

namespace hone {

double RouterTraining::temperature(int64_t step, int64_t steps) const {
  const double part = steps > 1 ? static_cast<double>(step) / static_cast<double>(steps - 1) : 0;
  return temperature_from * std::pow(temperature_to / temperature_from, std::min(part, 1.0));
}

Trainer::Trainer(Transformer& model, BatchSampler& sampler, const StepSettings& settings)
    : model_(model), sampler_(sampler), settings_(settings), optimizer_(model, settings.adamw) {}

RouterCall Trainer::router_call(int64_t step, uint64_t seed, std::vector<LayerRouting>& report) const {
  const RouterTraining& r = settings_.router;
  RouterCall call;
  call.noise = r.noise;
  call.temperature = static_cast<float>(r.temperature(step, settings_.schedule.steps));
  call.seed = mix64(seed ^ 0x726f75746572u);  // a stream beside dropout's
  call.balance_weight = r.balance_weight;
  call.z_weight = r.z_weight;
  call.capacity_factor = r.capacity_factor;
  call.report = &report;
  return call;
}

// After the optimizer's step, as in algorithm 1 of arXiv 2408.15664.
void Trainer::balance(const std::vector<LayerRouting>& routing) {
  if (settings_.router.bias_rate <= 0) return;
  for (size_t i = 0; i < routing.size(); ++i)
    if (!routing[i].load.empty()) model_.blocks()[i].feed_forward->balance(routing[i].load, settings_.router.bias_rate);
}

StepResult Trainer::step(int64_t step) {
  try {
    return gradients_and_step(step);
  } catch (...) {  // a router that is not finite, a signal: nothing of the step remains
    optimizer_.discard_gradients();
    throw;
  }
}

StepResult Trainer::gradients_and_step(int64_t step) {
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
    call.router = router_call(step, call.dropout_seed, result.routing);
    Tape tape;
    const Transformer::Output out = model_.run(inputs_, call);
    const ops::TokenLosses loss = model_.loss(out.hidden, targets_, seed);
    if (out.loss)
      result.router_loss += static_cast<double>(out.loss.value().data<float>()[0]) * static_cast<double>(seed);
    result.loss += static_cast<double>(loss.loss.value().data<float>()[0]) * static_cast<double>(seed);
    result.tokens += batch * context;
    tape.backward(ops::add_losses(loss.loss, out.loss), seed);
  }
  result.gradient_norm = optimizer_.gradient_norm();
  if (!std::isfinite(result.loss + result.router_loss) || !std::isfinite(result.gradient_norm)) {
    optimizer_.discard_gradients();
    return result;
  }
  const bool clipped = settings_.clip > 0 && result.gradient_norm > settings_.clip;
  optimizer_.step(result.learning_rate, clipped ? settings_.clip / result.gradient_norm : 1.0);
  balance(result.routing);
  return result;
}

}  // namespace hone
