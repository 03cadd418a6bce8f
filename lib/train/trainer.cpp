#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace hone {

double RouterTraining::temperature(int64_t step, int64_t steps) const {
  const double part = steps > 1 ? static_cast<double>(step) / static_cast<double>(steps - 1) : 0;
  return temperature_from * std::pow(temperature_to / temperature_from, std::min(part, 1.0));
}

Trainer::Trainer(Transformer& model, BatchSampler& sampler, const StepSettings& settings)
    : model_(model), sampler_(sampler), settings_(settings), optimizer_(model, settings.optimizer) {}

RouterCall Trainer::router_call(int64_t step, const ModelRouting& earlier) const {
  const RouterTraining& r = settings_.router;
  RouterCall call;
  call.noise = r.noise;
  call.temperature = static_cast<float>(r.temperature(step, settings_.schedule.steps));
  call.balance_weight = r.balance_weight;
  call.z_weight = r.z_weight;
  call.capacity_factor = r.capacity_factor;
  call.earlier = &earlier;
  return call;
}

// After the optimizer's step, as in algorithm 1 of arXiv 2408.15664.
void Trainer::balance(const ModelRouting& routing) {
  if (settings_.router.bias_rate <= 0) return;
  for (size_t i = 0; i < routing.size(); ++i)
    // Only mixtures have a load.
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
  const float weight = 1.0f / static_cast<float>(settings_.accumulate);
  for (int64_t micro = 0; micro < settings_.accumulate; ++micro) {
    sampler_.next(inputs_, targets_);
    ModelRouting routing;
    Call call = model_.call(Batch::whole(batch, context), settings_.type);
    // A function of the step alone: a resumed run draws the same.
    call.noise.seed = mix64(settings_.seed ^ mix64(static_cast<uint64_t>(step * settings_.accumulate + micro)));
    call.noise.dropout = settings_.dropout;
    call.router = router_call(step, result.routing);
    call.trace = {settings_.attention, &routing};
    call.recompute = settings_.recompute;
    Tape tape;
    Transformer::Output out = model_.forward(inputs_, call);
    std::vector<LossTerm> terms = {model_.loss(out.hidden, targets_, weight).term};
    for (LossTerm& term : out.terms) {
      term.weight *= weight;
      terms.push_back(std::move(term));
    }
    out.hidden = Var();
    for (const LossTerm& term : terms) {
      const double value = static_cast<double>(term.value.value().data<float>()[0]) * static_cast<double>(term.weight);
      result.terms[term.name] += value;
      (&term == &terms.front() ? result.loss : result.router_loss) += value;
    }
    result.tokens += batch * context;
    tape.backward(terms);
    add(result.routing, routing);
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
