// Prompts and generation.
#include <algorithm>

#include "base/random.h"
#include "bench/kernel_bench.h"
#include "bench/models.h"
#include "measure/speed.h"
#include "model/session.h"
#include "report/statistics.h"

namespace hone {
namespace {

class Generation : public PointMeasurement {
 public:
  Generation(Model& model, const GenerationShape& shape) : model_(*model.transformer), shape_(shape) {
    require_positions(model_.config(), shape.prompt + shape.generate, model.path);
  }

  void repeat(uint64_t seed, bool record) override {
    const GenerationTimes times = time_generation(model_, shape_, seed);
    if (!record) return;
    if (routing_.empty()) routing_ = routing();
    first_token_ms_.push_back(1e3 * times.prefill_seconds);
    const double batch = static_cast<double>(shape_.batch);
    prefill_.push_back(batch * static_cast<double>(shape_.prompt) / times.prefill_seconds);
    attention_ms_.push_back(1e3 * times.attention.seconds);
    attention_fraction_ = times.attention.fraction();
    add(depth_, times.depth);
    if (shape_.generate == 0) return;
    decode_.push_back(batch * static_cast<double>(shape_.generate) / times.decode_seconds());
    attention_decode_ms_.push_back(1e3 * times.step_attention_seconds / static_cast<double>(shape_.generate));
    for (const double seconds : times.step_seconds) step_ms_.push_back(1e3 * seconds);
  }

  Measured result(const kernels::Ceilings& ceilings) const override {
    GenerationResult r{.prompt = shape_.prompt, .generate = shape_.generate, .prefill = prefill_, .decode = decode_};
    const double tokens = static_cast<double>(shape_.batch * shape_.prompt);
    r.flops_per_second = prefill_flops(model_, shape_) * median(prefill_) / tokens;
    r.matrix_fraction = r.flops_per_second / matrix_peak(shape_.type, ceilings);
    r.first_token_ms = median(first_token_ms_);
    r.attention_ms = median(attention_ms_);
    r.attention_fraction = attention_fraction_;
    r.routing = routing_;
    r.depth = depth_;
    if (shape_.generate == 0) return r;
    r.attention_decode_ms = median(attention_decode_ms_);
    r.latency_ms_p50 = percentile(step_ms_, 50);
    r.latency_ms_p95 = percentile(step_ms_, 95);
    r.latency_ms_p99 = percentile(step_ms_, 99);
    r.flops_per_token = decode_flops(model_, shape_);
    r.bytes_per_token = decode_step_bytes(model_, shape_) / static_cast<double>(shape_.batch);
    r.read_bytes_per_second = r.bytes_per_token * median(decode_);
    r.bandwidth_fraction = r.read_bytes_per_second / ceilings.read_bytes_per_second;
    return r;
  }

 private:
  // Of a prompt like those that were timed; apart from them, since counting takes time.
  ModelRouting routing() const {
    ModelRouting result;
    if (std::ranges::all_of(model_.config().layers, [](const LayerBlueprint& l) { return l.experts == 0; }))
      return result;
    Random random(1, "routing");
    std::vector<int32_t> ids(static_cast<size_t>(shape_.prompt));
    for (int32_t& id : ids) id = static_cast<int32_t>(random.below(static_cast<uint64_t>(model_.config().vocabulary)));
    Session session(model_, {.sequences = 1, .capacity = shape_.prompt, .type = shape_.type, .code = shape_.code});
    session.trace.routing = &result;
    session.feed(std::span<const int32_t>(ids), shape_.chunk);
    return result;
  }

  Transformer& model_;
  GenerationShape shape_;
  std::vector<double> first_token_ms_, prefill_, decode_, step_ms_, attention_ms_, attention_decode_ms_;
  double attention_fraction_ = 1;
  ModelRouting routing_;
  ModelDepth depth_;
};

}  // namespace

std::unique_ptr<PointMeasurement> measure_generation(Model& model, const BenchPoint& point,
                                                     const BenchSettings& settings) {
  return std::make_unique<Generation>(model, GenerationShape{point.batch, point.length, settings.generate,
                                                             settings.type, settings.prefill_chunk, settings.code});
}

}  // namespace hone
