#include "train/run.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/error.h"
#include "base/log.h"
#include "base/stop.h"
#include "base/units.h"
#include "measure/evaluate.h"
#include "train/journal.h"
#include "train/run_state.h"

namespace hone {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Run {
 public:
  Run(Model& model, const Corpus& train, const Corpus* valid, const RunSettings& settings, const ModelFile* resume)
      : model_(model),
        valid_(valid),
        settings_(settings),
        sampler_(train, settings.context, settings.step.seed),
        trainer_(*model.transformer, sampler_, settings.step),
        journal_(settings.log, settings.plot, resume != nullptr) {
    if (resume) state_ = restore_run(*resume, settings_.description, sampler_, trainer_.optimizer());
  }

  RunResult go() {
    const double start = now();
    const int64_t steps = settings_.step.schedule.steps;
    while (state_.step < steps && !result_.signal && !result_.stopped_early) {
      if (settings_.before_step) settings_.before_step(state_.step);
      const double began = now();
      const StepResult step = guarded([&] { return trainer_.step(state_.step); });
      seconds_ += now() - began;
      tokens_ += step.tokens;
      check(step);
      ++state_.step;
      state_.tokens += step.tokens;
      const bool last = state_.step == steps;
      if (valid_ && (last || (settings_.valid_every > 0 && state_.step % settings_.valid_every == 0))) validate();
      report(step, last);
      if (const int signal = stop_signal()) result_.signal = signal;
      const bool due = settings_.save_every > 0 && state_.step % settings_.save_every == 0;
      if (!settings_.checkpoint.empty() && (due || last || result_.signal || result_.stopped_early)) save();
    }
    progress_.finish(line());
    if (settings_.keep_best && !result_.signal) use_best();
    result_.steps = state_.step;
    result_.tokens = state_.tokens;
    result_.loss = state_.smoothed;
    result_.seconds = now() - start;
    result_.tokens_per_second = seconds_ > 0 ? static_cast<double>(tokens_) / seconds_ : 0;
    journal_.finish();
    return result_;
  }

 private:
  std::string keeping() const {
    return settings_.checkpoint.empty() ? std::string("no checkpoint was asked for (--checkpoint)")
                                        : fmt::format("'{}' holds the last good state", settings_.checkpoint);
  }

  // A router that fails ends the run as any divergence does.
  template <class F>
  std::invoke_result_t<F> guarded(F&& f) {
    try {
      return f();
    } catch (const RouterError& error) {
      throw Error(ErrorKind::diverged,
                  fmt::format("training diverged at step {}: {}; {}. Lower --learning-rate or --clip, or add "
                              "--router-z-loss",
                              state_.step + 1, error.what(), keeping()));
    }
  }

  // A loss that doubled from its best (and rose by a nat) over some tens of steps does not come back by itself.
  void check(const StepResult& step) {
    if (!std::isfinite(step.loss + step.router_loss) || !std::isfinite(step.gradient_norm))
      throw Error(
          ErrorKind::diverged,
          fmt::format("training diverged at step {}: loss {}, gradient norm {}; {}. Lower --learning-rate or --clip",
                      state_.step + 1, step.loss, step.gradient_norm, keeping()));
    state_.smoothed = state_.step == 0 || state_.smoothed == 0 ? step.loss : 0.95 * state_.smoothed + 0.05 * step.loss;
    state_.lowest = state_.lowest == 0 ? state_.smoothed : std::min(state_.lowest, state_.smoothed);
    if (state_.smoothed > 2 * state_.lowest + 1)
      throw Error(
          ErrorKind::diverged,
          fmt::format("training diverged at step {}: the loss rose from {:.3f} to {:.3f}; {}. Lower --learning-rate",
                      state_.step + 1, state_.lowest, state_.smoothed, keeping()));
  }

  void validate() {
    EvaluateSettings s;
    s.context = s.stride = settings_.context;
    s.limit = settings_.valid_tokens;
    s.type = settings_.step.type;
    const double loss = guarded([&] { return evaluate(*model_.transformer, *valid_, s).loss(); });
    valid_loss_ = result_.valid_loss = loss;
    if (!state_.best_loss || loss < *state_.best_loss) {
      state_.best_loss = loss;
      state_.best_step = state_.step;
      state_.stale = 0;
      if (settings_.keep_best) state_.best = copy_parameters(*model_.transformer);
    } else if (++state_.stale >= settings_.patience && settings_.patience > 0) {
      log_info("no better validation loss in {} validations: stopping at step {}", state_.stale, state_.step);
      result_.stopped_early = true;
    }
  }

  void use_best() {
    if (state_.best.empty() || state_.best_step == state_.step) return;
    put_parameters(*model_.transformer, state_.best);
    result_.valid_loss = state_.best_loss;
    log_info("kept the parameters of step {} (validation loss {:.4f})", state_.best_step, *state_.best_loss);
  }

  void report(const StepResult& step, bool last) {
    if (!last) progress_.show(line());  // the last one comes from finish()
    if (last || valid_loss_ || state_.step % settings_.log_every == 0 || state_.step == 1)
      journal_.add(state_.step, state_.tokens, step, valid_loss_, tokens_per_second());
    if (valid_loss_) log_info("step {}: validation loss {:.4f}", state_.step, *valid_loss_);
    valid_loss_.reset();
  }

  double tokens_per_second() const { return seconds_ > 0 ? static_cast<double>(tokens_) / seconds_ : 0; }

  std::string line() const {
    const int64_t steps = settings_.step.schedule.steps;
    const double rate = tokens_per_second();
    const double per_step = static_cast<double>(settings_.step.batch * settings_.context * settings_.step.accumulate);
    const double left = rate > 0 ? static_cast<double>(steps - state_.step) * per_step / rate : 0;
    return fmt::format("step {}/{}  loss {:.4f}  {:.0f} tokens/s{}", state_.step, steps, state_.smoothed, rate,
                       state_.step < steps ? fmt::format("  {} left", format_duration(left)) : "");
  }

  void save() {
    save_run(settings_.checkpoint, model_, state_, settings_.description, sampler_, trainer_.optimizer());
    log_debug("checkpoint '{}' at step {}", settings_.checkpoint, state_.step);
  }

  Model& model_;
  const Corpus* valid_;
  RunSettings settings_;
  BatchSampler sampler_;
  Trainer trainer_;
  Journal journal_;
  RunState state_;
  RunResult result_;
  std::optional<double> valid_loss_;  // of this step
  double seconds_ = 0;                // in training steps
  int64_t tokens_ = 0;                // of this process
  Progress progress_;
};

}  // namespace

RunResult run_training(Model& model, const Corpus& train, const Corpus* valid, const RunSettings& settings,
                       const ModelFile* resume) {
  return Run(model, train, valid, settings, resume).go();
}

}  // namespace hone
