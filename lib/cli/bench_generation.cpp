// Prompts and generation.
#include "base/random.h"
#include "cli/bench_models.h"
#include "cli/routing_report.h"
#include "measure/kernel_bench.h"
#include "measure/speed.h"
#include "report/statistics.h"

namespace hone::cli {
namespace {

class Generation : public Measurement {
 public:
  Generation(Model& model, const GenerationShape& shape) : model_(*model.transformer), shape_(shape) {
    require_positions(model_.config(), shape.prompt + shape.generate, model.path);
  }

  void repeat(uint64_t seed, bool record) override {
    const GenerationTimes times = time_generation(model_, shape_, seed);
    if (!record) return;
    first_token_ms_.push_back(1e3 * times.prefill_seconds);
    const double batch = static_cast<double>(shape_.batch);
    prefill_.push_back(batch * static_cast<double>(shape_.prompt) / times.prefill_seconds);
    attention_ms_.push_back(1e3 * times.attention.seconds);
    attention_fraction_ = times.attention.fraction();
    if (shape_.generate == 0) return;
    decode_.push_back(batch * static_cast<double>(shape_.generate) / times.decode_seconds());
    attention_decode_ms_.push_back(1e3 * times.step_attention_seconds / static_cast<double>(shape_.generate));
    for (const double seconds : times.step_seconds) step_ms_.push_back(1e3 * seconds);
  }

  void describe(Row& row, const kernels::Ceilings& ceilings) const override {
    row.set("prompt", shape_.prompt).set("generate", shape_.generate);
    set_samples(row, "prefill_tokens_per_second", prefill_);
    const double tokens = static_cast<double>(shape_.batch * shape_.prompt);
    const double flops = prefill_flops(model_, shape_) * median(prefill_) / tokens;
    row.set("flops_per_second", flops).set("matrix_fraction", flops / matrix_peak(shape_.type, ceilings));
    row.set("first_token_ms", median(first_token_ms_));
    row.set("attention_ms", median(attention_ms_)).set("attention_fraction", attention_fraction_);
    set_routing(row, routing());
    if (shape_.generate == 0) return;
    set_samples(row, "decode_tokens_per_second", decode_);
    row.set("attention_decode_ms", median(attention_decode_ms_));
    row.set("latency_ms_p50", percentile(step_ms_, 50)).set("latency_ms_p95", percentile(step_ms_, 95));
    row.set("latency_ms_p99", percentile(step_ms_, 99));
    const double bytes = decode_step_bytes(model_, shape_) / static_cast<double>(shape_.batch);
    row.set("bytes_per_token", bytes).set("read_bytes_per_second", bytes * median(decode_));
    row.set("bandwidth_fraction", bytes * median(decode_) / ceilings.read_bytes_per_second);
  }

  std::vector<std::pair<std::string, double>> rates() const override {
    std::vector<std::pair<std::string, double>> result = {{"prefill", median(prefill_)}};
    if (shape_.generate > 0) result.emplace_back("decode", median(decode_));
    return result;
  }

 private:
  // Of a prompt like those that were timed; apart from them, since counting takes time.
  ModelRouting routing() const {
    const NoTape pause;
    Random random(1, "routing");
    std::vector<int32_t> ids(static_cast<size_t>(shape_.prompt));
    for (int32_t& id : ids) id = static_cast<int32_t>(random.below(static_cast<uint64_t>(model_.config().vocabulary)));
    ModelRouting result;
    for (const LayerBlueprint& layer : model_.config().layers) {
      if (layer.experts == 0) continue;
      Forward call;
      call.length = shape_.prompt;
      call.type = shape_.type;
      call.router.report = &result;
      model_.hidden(ids, call);
      break;
    }
    return result;
  }

  Transformer& model_;
  GenerationShape shape_;
  std::vector<double> first_token_ms_, prefill_, decode_, step_ms_, attention_ms_, attention_decode_ms_;
  double attention_fraction_ = 1;
};

}  // namespace

std::unique_ptr<Measurement> measure_generation(Model& model, const BenchPoint& point, const BenchOptions& options) {
  return std::make_unique<Generation>(
      model, GenerationShape{point.batch, point.prompt, options.generate, options.type(), options.prefill_chunk});
}

}  // namespace hone::cli
