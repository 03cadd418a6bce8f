// Training steps on random tokens.
#include <cmath>
#include <cstring>

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "bench/kernel_bench.h"
#include "bench/models.h"
#include "bench/step_settings.h"
#include "measure/speed.h"
#include "report/statistics.h"
#include "train/trainer.h"

namespace hone {
namespace {

// Reads four bytes of any text as one token of a vocabulary: random text becomes tokens that are uniform over all ids,
// as no real tokenizer's are for random text.
class AnyTokens : public Tokenizer {
 public:
  explicit AnyTokens(int64_t vocabulary) : vocabulary_(static_cast<int32_t>(vocabulary)) {}
  int32_t vocabulary() const override { return vocabulary_; }
  std::string_view text_of(int32_t) const override { return "0000"; }
  std::string name() const override { return "random"; }
  nlohmann::json to_json() const override { return {{"kind", "random"}}; }
  size_t cut(std::string_view text, size_t from) const override { return std::min((from + 3) / 4 * 4, text.size()); }
  std::unique_ptr<Encoder> encoder() const override {
    struct Quads : Encoder {
      uint32_t vocabulary;
      void append(std::string_view text, std::vector<int32_t>& out) override {
        for (size_t i = 0; i + 4 <= text.size(); i += 4) {
          uint32_t number = 0;
          std::memcpy(&number, text.data() + i, sizeof number);
          out.push_back(static_cast<int32_t>(number % vocabulary));
        }
      }
    };
    auto quads = std::make_unique<Quads>();
    quads->vocabulary = static_cast<uint32_t>(vocabulary_);
    return quads;
  }

 private:
  int32_t vocabulary_;
};

Corpus random_corpus(int64_t tokens, int64_t vocabulary, uint64_t seed) {
  Random random(seed, "bench");
  std::string text(static_cast<size_t>(tokens) * 4, '\0');
  for (size_t i = 0; i < text.size(); i += 4) {
    const uint32_t number = static_cast<uint32_t>(random.next() >> 32);
    std::memcpy(text.data() + i, &number, sizeof number);
  }
  return open_corpus({text_in_memory(std::move(text), "random tokens")}, std::make_shared<AnyTokens>(vocabulary));
}

class Training : public PointMeasurement {
 public:
  Training(Model& model, const BenchPoint& point, const StepSettings& settings, int64_t steps)
      : model_(*model.transformer),
        path_(model.path),
        context_(point.length),
        settings_(settings),
        steps_(steps),
        sampler_(
            BatchSampler(random_corpus(2 * settings.batch * context_ + 1, model_.config().vocabulary, settings.seed),
                         context_, settings.seed)),
        trainer_(model_, sampler_, with_meter(settings_, &meter_)) {}

  void repeat(uint64_t, bool record) override {
    meter_ = AttentionMeter();
    const Stopwatch watch;
    for (int64_t i = 0; i < steps_; ++i) {
      const StepResult result = trainer_.step(step_++);
      activation_bytes_ = std::max(activation_bytes_, result.activation_bytes);
      if (!std::isfinite(result.loss) || !std::isfinite(result.gradient_norm))
        throw input_error("'{}': its loss on random tokens is not a finite number, so that steps cannot be timed",
                          path_);
    }
    const double tokens = static_cast<double>(steps_ * settings_.batch * context_);
    if (!record) return;
    rates_.push_back(tokens / watch.seconds());
    const double steps = static_cast<double>(steps_);
    attention_forward_ms_.push_back(1e3 * meter_.seconds / steps);
    attention_backward_ms_.push_back(1e3 * meter_.backward_seconds / steps);
    attention_ms_.push_back(attention_forward_ms_.back() + attention_backward_ms_.back());
    attention_fraction_ = meter_.fraction();
  }

  Measured result(const kernels::Ceilings& ceilings) const override {
    TrainingResult r{.context = context_, .steps = steps_, .train = rates_};
    const double tokens = static_cast<double>(settings_.batch * context_);
    r.step_ms = 1e3 * tokens / median(rates_);
    r.attention_ms = median(attention_ms_);
    r.attention_forward_ms = median(attention_forward_ms_);
    r.attention_backward_ms = median(attention_backward_ms_);
    r.attention_fraction = attention_fraction_;
    r.recompute = to_string(settings_.recompute);
    r.activation_bytes = activation_bytes_;
    r.flops_per_second = training_flops(model_, settings_.batch, context_) / tokens * median(rates_);
    r.matrix_fraction = r.flops_per_second / matrix_peak(settings_.type, ceilings);
    return r;
  }

 private:
  static StepSettings with_meter(StepSettings settings, AttentionMeter* meter) {
    settings.attention = meter;
    return settings;
  }

  Transformer& model_;
  std::string path_;
  int64_t context_;
  StepSettings settings_;
  int64_t steps_, step_ = 0;
  TextBatches sampler_;
  AttentionMeter meter_;
  Trainer trainer_;
  std::vector<double> rates_, attention_ms_, attention_forward_ms_, attention_backward_ms_;
  double attention_fraction_ = 1;
  int64_t activation_bytes_ = 0;
};

}  // namespace

StepSettings timed_steps(const Transformer& model, int64_t batch, const BenchSettings& settings,
                         const std::string& recompute) {
  StepSettings step;
  step.batch = batch;
  step.type = settings.type;
  step.eight_bits = settings.eight_bits;
  step.seed = settings.seed;
  step.recompute = recompute_plan(recompute);
  step.grid = grid_of(model);
  step.schedule.kind = &schedule_named("constant");
  step.schedule.peak = 1e-5;  // the work is that of any step, and no model diverges
  step.schedule.warmup = 0;
  step.schedule.steps = 1 << 30;
  return step;
}

std::unique_ptr<PointMeasurement> measure_training(Model& model, const BenchPoint& point, const BenchSettings& settings,
                                                   const std::string& recompute) {
  BenchPoint own = point;
  if (own.length == 0) own.length = model.transformer->config().context;
  require_positions(model.transformer->config(), own.length, model.path);
  const StepSettings step = timed_steps(*model.transformer, point.batch, settings, recompute);
  try {
    return std::make_unique<Training>(model, own, step, settings.steps);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("'{}': {}", model.path, error.what()));
  }
}

}  // namespace hone
