#include "train/run.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "base/units.h"
#include "measure/evaluate.h"
#include "measure/speed.h"
#include "train/run_state.h"

namespace hone {
namespace {

class Run {
 public:
  Run(Model& model, const RunData& data, const RunSettings& settings, const ModelFile* resume)
      : model_(model),
        validate_(data.validate),
        settings_(settings),
        ranks_(*settings_.step.grid.all),
        source_(data.train),
        trainer_(*model.transformer, source_, settings.step) {
    if (settings_.average) average_.emplace(*model.transformer, settings_.average, settings_.step.schedule.steps);
    if (!resume) return;
    state_ = restore_run(*resume, settings_, *model.transformer, source_, trainer_.optimizer(), average());
    result_.stopped_early = settings_.patience > 0 && state_.stale >= settings_.patience;
    result_.checkpoint_saved = true;
    if (state_.validated == state_.step) result_.valid_loss = state_.valid_loss;
  }

  RunResult go() {
    const double start = seconds_now();
    const int64_t steps = settings_.step.schedule.steps;
    // A signal may have cut off the validation of the step that the run was saved at.
    if (state_.step > 0 && validation_due() && state_.validated != state_.step) after(state_.last);
    while (state_.step < steps && !result_.signal && !result_.stopped_early) {
      if (const std::optional<StepResult> step = take_step()) after(*step);
    }
    const bool caller_saves = !result_.signal || !result_.checkpoint_saved;
    progress_.finish(line());
    result_.steps = result_.kept_step = state_.step;
    result_.tokens = state_.tokens;
    result_.loss = state_.smoothed;
    if (settings_.keep_best && caller_saves) use_best();
    if (average_ && !settings_.keep_best && caller_saves) average_->exchange();
    result_.seconds = seconds_now() - start;
    result_.tokens_per_second = seconds_ > 0 ? static_cast<double>(tokens_) / seconds_ : 0;
    return result_;
  }

 private:
  ParameterAverage* average() { return average_ ? &*average_ : nullptr; }

  // None where a signal came in its middle: parameters, optimizer and place in the data are then as before it.
  std::optional<StepResult> take_step() {
    const nlohmann::json place = source_.state();
    try {
      if (settings_.before_step) agree(ranks_, [&] { settings_.before_step(state_.step); });
      const double began = seconds_now();
      const StepResult step = guarded([&] { return trainer_.step(state_.step); });
      seconds_ += seconds_now() - began;
      tokens_ += step.tokens;
      work_done_ += work_of(step.context);
      check(step);
      ++state_.step;
      if (average_) average_->add(state_.step);
      state_.tokens += step.tokens;
      return step;
    } catch (const Stopped& stopped) {
      source_.restore(place);
      result_.signal = stopped.signal();
      save_if_wanted(true);
      return std::nullopt;
    } catch (const Error& error) {
      // A line that cannot be read any more: what was learned before it is kept.
      if (error.kind() == ErrorKind::input && state_.step > 0 && !trainer_.failed_alone()) {
        source_.restore(place);
        save_if_wanted(true);
      }
      throw;
    }
  }

  bool validation_due() const {
    const bool last = state_.step == settings_.step.schedule.steps;
    return validate_ && (last || (settings_.valid_every > 0 && state_.step % settings_.valid_every == 0));
  }

  void after(const StepResult& step) {
    const bool last = state_.step == settings_.step.schedule.steps, due = validation_due();
    state_.last = step;
    if (due) validate();
    if (!due || state_.validated == state_.step) report(step, last);
    if (const int signal = signal_of_any()) result_.signal = signal;
    const bool save = settings_.save_every > 0 && state_.step % settings_.save_every == 0;
    save_if_wanted(save || last || result_.signal || result_.stopped_early);
  }

  // That a rank received, the lowest of those that did; 0: none.
  int signal_of_any() {
    if (ranks_.size() == 1) return stop_signal();
    for (const std::string& number : ranks_.gather(std::to_string(stop_signal())))
      if (number != "0") return std::stoi(number);
    return 0;
  }

  std::string keeping() const {
    return settings_.checkpoint.empty() ? std::string("no checkpoint was asked for")
                                        : fmt::format("'{}' holds the last good state", settings_.checkpoint);
  }

  // A router that fails ends the run as any divergence does.
  template <class F>
  std::invoke_result_t<F> guarded(F&& f) {
    try {
      return f();
    } catch (const RouterError& error) {
      throw Error(ErrorKind::diverged,
                  fmt::format("training diverged at step {}: {}; {}. Lower the learning rate or the "
                              "norm of clipping, or add a loss on the router's logits",
                              state_.step + 1, error.what(), keeping()));
    }
  }

  // A loss that doubled from its best (and rose by a nat) over some tens of steps does not come back by itself.
  void check(const StepResult& step) {
    if (!std::isfinite(step.minimized) || !std::isfinite(step.gradient_norm))
      throw Error(ErrorKind::diverged,
                  fmt::format("training diverged at step {}: loss {}, gradient norm {}; {}. Lower the learning "
                              "rate or the norm of clipping",
                              state_.step + 1, step.loss, step.gradient_norm, keeping()));
    state_.smoothed = state_.step == 0 || state_.smoothed == 0 ? step.loss : 0.95 * state_.smoothed + 0.05 * step.loss;
    state_.lowest = state_.lowest == 0 ? state_.smoothed : std::min(state_.lowest, state_.smoothed);
    if (state_.smoothed > 2 * state_.lowest + 1)
      throw Error(
          ErrorKind::diverged,
          fmt::format("training diverged at step {}: the loss rose from {:.3f} to {:.3f}; {}. Lower the learning "
                      "rate",
                      state_.step + 1, state_.lowest, state_.smoothed, keeping()));
  }

  void validate() {
    // Ranks with parts of one model score together: none of them leaves alone.
    std::optional<StopLater> together;
    if (model_.transformer->ranks()) together.emplace();
    // That of rank 0, on all.
    const auto score = [&] {
      return std::stod(gather_agreed(ranks_, [&] { return fmt::format("{:a}", guarded(validate_)); }).front());
    };
    double loss = 0;
    bool of_average = false;
    try {
      if (!average_ || settings_.keep_best) loss = score();
      if (average_) {
        const double averaged = with_average(score);
        log_debug("step {}: validation loss of the average {:.4f}", state_.step, averaged);
        of_average = !settings_.keep_best || averaged < loss;
        if (of_average) loss = averaged;
      }
    } catch (const Stopped& stopped) {
      result_.signal = stopped.signal();
      return;
    }
    if (!std::isfinite(loss))
      throw Error(ErrorKind::diverged, fmt::format("training diverged at step {}: the validation loss is {}; {}. Lower "
                                                   "the learning rate or the norm of clipping",
                                                   state_.step, loss, keeping()));
    state_.validated = state_.step;
    valid_loss_ = result_.valid_loss = state_.valid_loss = loss;
    if (state_.step <= settings_.competes_after) return;
    if (!state_.best_loss || loss < *state_.best_loss) {
      state_.best_loss = loss;
      state_.best_step = state_.step;
      state_.best_smoothed = state_.smoothed;
      state_.stale = 0;
      const auto copy = [&] { return copy_parameters(*model_.transformer); };
      if (settings_.keep_best) state_.best = of_average ? with_average(copy) : copy();
    } else if (++state_.stale >= settings_.patience && settings_.patience > 0) {
      log_info("no better validation loss in {}: stopping at step {}", counted(state_.stale, "validation"),
               state_.step);
      result_.stopped_early = true;
    }
  }

  // f() while the model has the average.
  template <class F>
  std::invoke_result_t<F> with_average(F&& f) {
    struct Exchanged {
      explicit Exchanged(ParameterAverage& average) : average_(average) { average_.exchange(); }
      ~Exchanged() { average_.exchange(); }
      ParameterAverage& average_;
    } exchanged(*average_);
    return f();
  }

  void use_best() {
    if (state_.best.empty()) {
      log_warning("no validation has competed for the best yet: the parameters are those of step {}", state_.step);
      return;
    }
    result_.kept_step = state_.best_step;
    result_.loss = state_.best_smoothed;
    result_.valid_loss = state_.best_loss;
    if (state_.best_step == state_.step && !average_) return;
    put_parameters(*model_.transformer, state_.best);
    log_info("kept the parameters of step {} (validation loss {:.4f})", state_.best_step, *state_.best_loss);
  }

  void report(const StepResult& step, bool last) {
    if (!last) progress_.show(line());  // the last one comes from finish()
    if (settings_.journal && (last || valid_loss_ || state_.step % settings_.log_every == 0 || state_.step == 1))
      settings_.journal->add(state_.step, state_.tokens, step, valid_loss_, tokens_per_second());
    if (valid_loss_) log_info("step {}: validation loss {:.4f}", state_.step, *valid_loss_);
    valid_loss_.reset();
  }

  double tokens_per_second() const { return seconds_ > 0 ? static_cast<double>(tokens_) / seconds_ : 0; }

  // Products and attention of a step with windows of this length, counted once for each.
  double work_of(int64_t context) {
    double& work = work_[context];
    if (work == 0)
      work = training_flops(*model_.transformer, settings_.step.batch * settings_.context / context, context);
    return work;
  }

  // Longer windows take longer than those that were timed: what is left is counted in work.
  double seconds_left() {
    if (work_done_ == 0) return 0;
    std::vector<CurriculumStage> stages = settings_.step.curriculum;
    if (stages.empty()) stages = {{0, settings_.context}};
    double left = 0;
    for (size_t i = 0; i < stages.size(); ++i) {
      const int64_t end = i + 1 < stages.size() ? stages[i + 1].from : settings_.step.schedule.steps;
      const int64_t steps = end - std::max(stages[i].from, state_.step);
      if (steps > 0) left += static_cast<double>(steps) * work_of(stages[i].context);
    }
    return left * seconds_ / work_done_;
  }

  std::string line() {
    const int64_t steps = settings_.step.schedule.steps;
    const double left = seconds_left();
    return fmt::format("step {}/{}  loss {:.4f}  {:.0f} tokens/s{}", state_.step, steps, state_.smoothed,
                       tokens_per_second(),
                       state_.step < steps && left > 0 ? fmt::format("  {} left", format_duration(left)) : "");
  }

  // A checkpoint that cannot be written costs the run nothing but the checkpoint.
  void save_if_wanted(bool due) {
    result_.checkpoint_saved = false;
    if (settings_.checkpoint.empty() || !due) return;
    const StopLater save_first;
    try {
      agree(ranks_, [&] {
        save_run(settings_.checkpoint, model_, state_, settings_, source_, trainer_.optimizer(), average());
      });
      result_.checkpoint_saved = true;
      result_.checkpoint_missing.clear();  // the file is whole, and holds more than the one that failed
      log_debug("checkpoint '{}' at step {}", settings_.checkpoint, state_.step);
    } catch (const Error& error) {
      result_.checkpoint_missing = fmt::format("no checkpoint at step {}: {}", state_.step, error.what());
      log_warning("{}", result_.checkpoint_missing);
    }
  }

  Model& model_;
  std::function<double()> validate_;
  RunSettings settings_;
  Communicator& ranks_;
  BatchSource& source_;
  Trainer trainer_;
  std::optional<ParameterAverage> average_;
  RunState state_;
  RunResult result_;
  std::optional<double> valid_loss_;  // of this step
  double seconds_ = 0;                // in training steps
  int64_t tokens_ = 0;                // of this process
  double work_done_ = 0;              // of this process
  std::map<int64_t, double> work_;    // of a step, by the length of its windows
  Progress progress_;
};

}  // namespace

void check_run(const Transformer& model, const Corpus& train, const Corpus* valid, const RunSettings& settings,
               const ModelFile* resume) {
  require_trainable(model);
  model.require_causal();
  require_window(train, settings.context);
  if (const int64_t windows = (train.size() - 1) / settings.context; windows < settings.step.grid.data->size())
    throw input_error("{} has {} of {}, fewer than the {} ranks; use fewer ranks", train.name(),
                      counted(windows, "window"), counted(settings.context, "token"), settings.step.grid.data->size());
  if (valid && valid->size() < 2)
    throw input_error("{} has {}; a validation needs at least 2", valid->name(), counted(valid->size(), "token"));
  if (resume) check_same_run(*resume, settings);
  if (settings.shuffle == Shuffle::documents) DocumentOrder{train};  // throws where there is nothing to shuffle
}

RunResult run_training(Model& model, const Corpus& train, const Corpus* valid, const RunSettings& settings,
                       const ModelFile* resume) {
  check_run(*model.transformer, train, valid, settings, resume);
  TextBatches batches(BatchSampler(train, settings.context, settings.step.seed, settings.shuffle));
  RunData data{batches, {}};
  if (valid)
    data.validate = [&] {
      EvaluateSettings s;
      s.context = s.stride = settings.context;
      s.limit = settings.valid_tokens;
      s.type = settings.step.type;
      s.ranks = settings.step.grid.copies;
      return evaluate(*model.transformer, *valid, s).loss();
    };
  return Run(model, data, settings, resume).go();
}

RunResult run_training(Model& model, const RunData& data, const RunSettings& settings, const ModelFile* resume) {
  require_trainable(*model.transformer);
  model.transformer->require_causal();
  if (resume) check_same_run(*resume, settings);
  return Run(model, data, settings, resume).go();
}

}  // namespace hone
