// Training steps on text, images and sounds: all kinds of sequences in one batch, beside a batch of each kind.
#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "bench/step_settings.h"
#include "feed/parts_reader.h"
#include "measure/speed.h"
#include "report/statistics.h"

namespace hone {
namespace {

// What all sequences of a kind are.
struct SequenceKind {
  PartRows rows;
  std::vector<int32_t> targets;  // of each row; -1: what follows is no token
};

// One that ends behind its last row.
SequenceKind kind_of(PartRows rows) {
  SequenceKind kind;
  const std::vector<bool> is_text = rows.text();
  for (size_t row = 0; row + 1 < rows.ids.size(); ++row)
    kind.targets.push_back(is_text[row + 1] ? rows.ids[row + 1] : -1);
  kind.targets.push_back(document_separator);
  kind.rows = std::move(rows);
  return kind;
}

// Batches of all kinds, equally many sequences of each; or of one kind after the other.
class KindBatches : public BatchSource {
 public:
  KindBatches(const std::vector<SequenceKind>& kinds, bool mixed) : kinds_(kinds), mixed_(mixed) {}

  void next(int64_t sequences, TrainingBatch& batch) override {
    batch = {};
    if (!mixed_) return add(kinds_[turn_++ % kinds_.size()], sequences, batch);
    for (const SequenceKind& kind : kinds_) add(kind, sequences / static_cast<int64_t>(kinds_.size()), batch);
  }
  void skip(int64_t) override {}
  int64_t context() const override {
    int64_t longest = 0;
    for (const SequenceKind& kind : kinds_) longest = std::max(longest, kind.rows.size());
    return longest;
  }
  void set_context(int64_t) override {}
  nlohmann::json state() const override { return {}; }
  void restore(const nlohmann::json&) override {}

 private:
  static void add(const SequenceKind& kind, int64_t count, TrainingBatch& batch) {
    for (int64_t i = 0; i < count; ++i) {
      batch.spans.push_back({static_cast<int64_t>(batch.spans.size()), 0, kind.rows.size()});
      batch.rows.add(kind.rows.input());
      batch.targets.insert(batch.targets.end(), kind.targets.begin(), kind.targets.end());
      batch.data_rows += kind.rows.size();
    }
  }

  const std::vector<SequenceKind>& kinds_;
  bool mixed_;
  size_t turn_ = 0;
};

// Text first, then each part with a token behind it.
std::vector<SequenceKind> kinds_of(const Model& file, const BenchPoint& point, const BenchSettings& settings) {
  const Transformer& model = *file.transformer;
  Random random(settings.seed, "parts");
  const auto tokens = [&](int64_t count) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < count; ++i)
      ids.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(model.config().vocabulary))));
    return ids;
  };
  std::vector<SequenceKind> kinds;
  PartRows text;
  text.add(tokens(point.length > 0 ? point.length : model.config().context));
  kinds.push_back(kind_of(std::move(text)));
  for (const std::string& name : settings.parts) {
    const EncoderKind& encoder = encoder_for(file, name);
    PartRows rows;
    rows.add(model.encoder_of(name), encoder.features(encoder.noise(random), "noise"));
    rows.add(tokens(1));
    kinds.push_back(kind_of(std::move(rows)));
  }
  for (const SequenceKind& kind : kinds) require_positions(model.config(), kind.rows.size(), file.path);
  return kinds;
}

class PartsTraining : public PointMeasurement {
 public:
  PartsTraining(Model& model, std::vector<SequenceKind> kinds, const BenchPoint& point, const BenchSettings& settings,
                const std::string& recompute)
      : path_(model.path),
        kinds_(std::move(kinds)),
        mixed_batches_(kinds_, true),
        batches_(kinds_, false),
        mixed_(*model.transformer, mixed_batches_,
               timed_steps(*model.transformer, point.batch * static_cast<int64_t>(kinds_.size()), settings, recompute)),
        // As many batches, whose gradients are added: one change of the parameters here and there.
        separate_(*model.transformer, batches_, [&] {
          StepSettings step = timed_steps(*model.transformer, point.batch, settings, recompute);
          step.accumulate = static_cast<int64_t>(kinds_.size());
          return step;
        }()) {
    result_.parts = settings.parts;
    result_.context = kinds_.front().rows.size();
    result_.steps = settings.steps;
    result_.recompute = to_string(recompute_plan(recompute));
    for (const SequenceKind& kind : kinds_) result_.rows += point.batch * kind.rows.size();
  }

  void repeat(uint64_t, bool record) override {
    const double separate_ms = step_ms(separate_), mixed_ms = step_ms(mixed_);
    if (!record) return;
    result_.train.push_back(1e3 * static_cast<double>(result_.rows) / mixed_ms);
    result_.step_ms.push_back(mixed_ms);
    result_.separate_ms.push_back(separate_ms);
    result_.over_separate.push_back(mixed_ms / separate_ms);
  }

  Measured result(const kernels::Ceilings&) const override { return result_; }

 private:
  double step_ms(Trainer& trainer) {
    const Stopwatch watch;
    for (int64_t i = 0; i < result_.steps; ++i) {
      const StepResult step = trainer.step(step_++);
      if (!std::isfinite(step.loss) || !std::isfinite(step.gradient_norm))
        throw input_error("'{}': its loss on noise is not a finite number, so that steps cannot be timed", path_);
    }
    return 1e3 * watch.seconds() / static_cast<double>(result_.steps);
  }

  std::string path_;
  std::vector<SequenceKind> kinds_;
  KindBatches mixed_batches_, batches_;
  Trainer mixed_, separate_;
  int64_t step_ = 0;
  PartsTrainingResult result_;
};

}  // namespace

std::unique_ptr<PointMeasurement> measure_parts_training(Model& model, const BenchPoint& point,
                                                         const BenchSettings& settings, const std::string& recompute) {
  std::vector<SequenceKind> kinds = kinds_of(model, point, settings);
  try {
    return std::make_unique<PartsTraining>(model, std::move(kinds), point, settings, recompute);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("'{}': {}", model.path, error.what()));
  }
}

}  // namespace hone
