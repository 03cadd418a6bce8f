// Measuring several models at the same settings, repetition by repetition in turn.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "bench/result.h"
#include "kernels/ceilings.h"
#include "model/session.h"
#include "model/store.h"
#include "nn/encoders/encoder.h"
#include "serve/draft.h"

namespace hone {

// One setting of what is measured; every model runs each.
struct BenchPoint {
  int threads = 1;
  int64_t batch = 1;
  int64_t length = 0;  // tokens of prompts, or of windows to train with; 0: the model's context
};

struct BenchSettings {
  std::vector<std::string> models;          // paths
  std::vector<std::string> attention = {};  // kinds to compare, in place of the models' own; none: those
  // With train: what to compute again (nn/recompute.h), to compare; none: "none".
  std::vector<std::string> recompute = {};
  std::vector<BenchPoint> points;
  int64_t generate = 64;                 // tokens after each prompt
  int64_t prefill_chunk = 2048;          // tokens of a prompt that go through the model at once
  std::vector<std::string> drafts = {};  // kinds and files to compare behind prompts of `data`
  std::vector<std::string> exits = {};   // rules of exits, compared in the same way
  Session::Filling filling = Session::Filling::exact;
  std::string data;  // a text: what is written behind pieces of it is measured
  int64_t draft_tokens = most_drafted;
  double draft_min_probability = 0.4;
  // Media before the text of a prompt, whose encoders are timed; with train, of sequences beside text. None: text
  // alone.
  std::vector<std::string> parts = {};
  bool train = false;  // training steps instead of prompts and generation
  int64_t steps = 2;   // of a repetition, with train
  int64_t repeat = 5, warmup = 1;
  DType type = DType::f32;  // of activations and products
  bool eight_bits = false;  // with train: StepSettings::eight_bits
  kernels::ActivationRounding rounding = {};
  kernels::CacheCode code = kernels::CacheCode::none;  // of the cache
  std::string precision;                               // what the report calls it
  bool refresh_ceilings = false;
  uint64_t seed = 1;
  // Who has parts of the models, and computes the same batches of them; nobody: this process has them whole. All call
  // bench_models(), and what the first gets is right.
  ModelRanks ranks = {};
};

// Results of the first setting for each model, then of the next. Throws Error(usage) where a model cannot do what is
// asked or memory is short, Error(input) for a file that cannot be read.
std::vector<BenchResult> bench_models(const BenchSettings& settings);

// Throws as bench_models() would before it measures, and says what would be measured.
void check_bench(const BenchSettings& settings);

// How text is written.
struct WritingVariant {
  std::string draft = "none", exit = "none";
};

// One model at one setting: repetitions are run, then described.
class PointMeasurement {
 public:
  virtual ~PointMeasurement() = default;
  virtual void repeat(uint64_t seed, bool record) = 0;
  virtual Measured result(const kernels::Ceilings& ceilings) const = 0;
};

// `model` must outlive the result. Throws Error(usage) where the model cannot do what is asked.
std::unique_ptr<PointMeasurement> measure_generation(Model& model, const BenchPoint& point,
                                                     const BenchSettings& settings);
std::unique_ptr<PointMeasurement> measure_writing(Model& model, const BenchPoint& point, const BenchSettings& settings,
                                                  const WritingVariant& variant);
// With settings.parts; throws Error(usage) also where the model has no encoder for one.
std::unique_ptr<PointMeasurement> measure_parts(Model& model, const BenchPoint& point, const BenchSettings& settings);
std::unique_ptr<PointMeasurement> measure_training(Model& model, const BenchPoint& point, const BenchSettings& settings,
                                                   const std::string& recompute);
// With settings.train and settings.parts; throws as measure_parts().
std::unique_ptr<PointMeasurement> measure_parts_training(Model& model, const BenchPoint& point,
                                                         const BenchSettings& settings, const std::string& recompute);
// The model's for this medium. Throws Error(usage) where it has none.
const EncoderKind& encoder_for(const Model& model, const std::string& medium);

}  // namespace hone
