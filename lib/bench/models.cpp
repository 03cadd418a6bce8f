#include "bench/models.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/log.h"
#include "base/memory_limit.h"
#include "base/spelling.h"
#include "bench/ceilings_cache.h"
#include "bench/child_process.h"
#include "bench/kernel_bench.h"
#include "kernels/parallel.h"
#include "measure/footprint.h"
#include "measure/memory.h"
#include "measure/speed.h"
#include "model/verify_groups.h"
#include "train/optimizer.h"

namespace hone {
namespace {

class ModelsBench {
 public:
  explicit ModelsBench(const BenchSettings& settings) : s_(settings) {
    const std::vector<std::string> own = {""};
    const std::vector<std::string> again = s_.recompute.empty() ? std::vector<std::string>{"none"} : s_.recompute;
    for (const std::string& path : s_.models)
      for (const std::string& kinds : s_.attention.empty() ? own : s_.attention) {
        for (const std::string& plan : again) variants_.push_back({path, kinds, plan, {}});
        for (const std::string& draft : s_.drafts) variants_.push_back({path, kinds, "none", {draft, "none"}});
        for (const std::string& exit : s_.exits) variants_.push_back({path, kinds, "none", {"none", exit}});
      }
  }

  std::vector<BenchResult> run() {
    require_memory();
    for (const Variant& variant : variants_)  // while this process is still small; ranks could not talk in a child
      peaks_.push_back(s_.ranks ? std::vector<int64_t>() : peaks_of(variant));
    load_all();
    for (const BenchPoint& point : s_.points)
      if (!ceilings_.contains(point.threads)) ceilings_[point.threads] = measured_ceilings(point.threads);
    for (size_t i = 0; i < s_.points.size(); ++i) measure_point(i);
    return std::move(results_);
  }

  void check() {
    require_memory();
    load_all();
    for (size_t m = 0; m < models_.size(); ++m)
      for (const BenchPoint& point : s_.points) {
        begin(models_[m], variants_[m], point);
        log_info("would measure '{}': {}, batch {}{}", name_of(m), counted(point.threads, "thread"), point.batch,
                 point.length ? fmt::format(", {} {}", s_.train ? "context" : "prompt", point.length) : "");
      }
  }

 private:
  // A model with kinds of attention, its own where there are none; what its training computes again; how it writes,
  // where that is compared.
  struct Variant {
    std::string path, kinds, recompute;
    WritingVariant writing;
  };

  // For prompts longer than its context too: kinds must fit the longest.
  Model load(const Variant& variant) const {
    Model model = load_model(variant.path, {.defer = !s_.train}, nullptr, s_.ranks);
    verify_in_groups(model);
    set_rounding(model, s_.rounding);
    if (s_.train) require_finite(model);
    int64_t longest = 0;
    for (const BenchPoint& point : s_.points) longest = std::max(longest, point.length);
    if (!variant.kinds.empty()) model.transformer->set_attention(variant.kinds, longest);
    return model;
  }

  void load_all() {
    for (const Variant& variant : variants_) {
      models_.push_back(load(variant));
      const std::string& draft = variant.writing.draft;
      if (draft != "none" && !is_draft_kind(draft))
        warn_of_dear_draft(open_draft(draft, models_.back(), s_.draft_tokens, s_.draft_min_probability),
                           models_.back());
    }
  }

  std::string name_of(size_t m) const {
    std::string name = models_[m].path;
    for (const std::string& with : {variants_[m].kinds, variants_[m].writing.draft, variants_[m].writing.exit})
      if (!with.empty() && with != "none") name += " with " + with;
    if (!s_.recompute.empty()) name += fmt::format(", computing {} again", variants_[m].recompute);
    return name;
  }

  // Of each model at each point, before the first is loaded.
  void require_memory() const {
    for (const Variant& variant : variants_) {
      Config config = config_from_json(read_model_file(variant.path, {.parameters = false}).config, variant.path);
      s_.ranks.require_any(config);
      if (!variant.kinds.empty()) set_attention(config, variant.kinds);
      for (const BenchPoint& point : s_.points) {
        const int64_t length = point.length ? point.length : config.context;
        const Footprint need =
            s_.train ? training_need(config, point, length, recompute_plan(variant.recompute))
                     : generation_footprint(s_.ranks.shape_of_one(config), point.batch, sum_of(length, s_.generate),
                                            s_.prefill_chunk, s_.type, s_.code);
        require_memory_for(need, fmt::format("'{}' at batch {}", variant.path, point.batch),
                           s_.train ? "choose a smaller batch or a shorter prompt" : "shrink the batch or its text");
      }
    }
  }

  // With parts, of as many sequences for each kind as for text, none longer than the longest; and moments twice.
  Footprint training_need(const Config& config, const BenchPoint& point, int64_t length,
                          const RecomputePlan& recompute) const {
    int64_t kinds = 1;
    for (const std::string& name : config.encoders) {
      const auto kind = encoder_kind(name);
      if (std::ranges::find(s_.parts, kind->medium().name) == s_.parts.end()) continue;
      Random random(s_.seed, "parts");
      length = std::max(length, kind->features(kind->noise(random), "noise").rows() + 3);
      ++kinds;
    }
    const double moments = optimizer_bytes(config, {}, 1, 1, s_.ranks);
    return training_footprint(config, {point.batch * kinds, length, s_.type, 0, recompute},
                              kinds > 1 ? 2 * moments : moments, s_.ranks);
  }

  std::unique_ptr<PointMeasurement> begin(Model& model, const Variant& variant, const BenchPoint& point) const {
    if (!s_.data.empty()) return measure_writing(model, point, s_, variant.writing);
    if (!s_.parts.empty())
      return s_.train ? measure_parts_training(model, point, s_, variant.recompute) : measure_parts(model, point, s_);
    return s_.train ? measure_training(model, point, s_, variant.recompute) : measure_generation(model, point, s_);
  }

  // The most memory at each point, of a process that holds this model alone; none where that ended without an answer:
  // this process meets the same error and reports it.
  std::vector<int64_t> peaks_of(const Variant& variant) const {
    try {
      return in_child(fmt::format("measuring the memory of '{}'", variant.path), s_.points.front().threads, [&] {
        set_log_level(LogLevel::error);
        Model model = load(variant);
        std::vector<int64_t> peaks;
        for (const BenchPoint& point : s_.points) {
          kernels::set_threads(point.threads);
          release_pool();
          reset_peak_rss();
          begin(model, variant, point)->repeat(s_.seed, false);
          peaks.push_back(peak_rss_bytes());
        }
        return nlohmann::json(peaks);
      });
    } catch (const Error&) {
      return {};
    }
  }

  // Of the first rank, which reports, while the others wait.
  kernels::Ceilings measured_ceilings(int threads) const {
    if (!s_.ranks) return machine_ceilings(threads, s_.refresh_ceilings, product_rate);
    kernels::Ceilings ceilings;
    agree(*s_.ranks.group, [&] {
      if (s_.ranks.group->rank() == 0) ceilings = machine_ceilings(threads, s_.refresh_ceilings, product_rate);
    });
    return ceilings;
  }

  // Models take turns, so that what else the machine does meanwhile hits all of them alike.
  void measure_point(size_t index) {
    const BenchPoint& point = s_.points[index];
    kernels::set_threads(point.threads);
    std::vector<std::unique_ptr<PointMeasurement>> measurements;
    for (size_t m = 0; m < models_.size(); ++m) measurements.push_back(begin(models_[m], variants_[m], point));
    for (int64_t repetition = -s_.warmup; repetition < s_.repeat; ++repetition)
      for (size_t m = 0; m < models_.size(); ++m) {
        progress_.show(fmt::format("setting {} of {}, {} {} of {}: {}", index + 1, s_.points.size(),
                                   repetition < 0 ? "warming up" : "repetition",
                                   repetition < 0 ? repetition + s_.warmup + 1 : repetition + 1,
                                   repetition < 0 ? s_.warmup : s_.repeat, name_of(m)));
        measurements[m]->repeat(s_.seed + static_cast<uint64_t>(repetition + s_.warmup), repetition >= 0);
        log_debug("measured '{}', repetition {}", name_of(m), repetition);
      }
    const size_t first = results_.size();
    for (size_t m = 0; m < models_.size(); ++m) {
      results_.push_back(result_of(index, m, *measurements[m]));
      if (models_.size() > 1) results_.back().ratios = ratios(results_.back(), results_[first]);
    }
  }

  static std::vector<std::pair<std::string, double>> ratios(const BenchResult& own, const BenchResult& first) {
    auto result = rates(own);
    const auto others = rates(first);
    for (size_t i = 0; i < result.size(); ++i) result[i].second /= others[i].second;
    return result;
  }

  BenchResult result_of(size_t index, size_t m, const PointMeasurement& measurement) {
    const BenchPoint& point = s_.points[index];
    const kernels::Ceilings& ceilings = ceilings_.at(point.threads);
    Transformer& model = *models_[m].transformer;
    BenchResult r;
    r.model = models_[m].path;
    r.form = weight_forms(model);
    r.attention = attention_of(model.config());
    r.batch = point.batch;
    r.threads = point.threads;
    r.measured = measurement.result(ceilings);
    if (index < peaks_[m].size()) r.peak_rss_bytes = peaks_[m][index];
    if (s_.ranks) {
      r.division = s_.ranks.way->name;
      r.ranks = s_.ranks.size();
      r.peak_rss_bytes = peak_rss_bytes();  // of this rank, with all that was measured before
    }
    r.file_bytes = static_cast<int64_t>(std::filesystem::file_size(models_[m].path));
    r.size = size_of(model);
    r.precision = s_.precision;
    r.repeat = s_.repeat;
    r.ceiling_read_bytes_per_second = ceilings.read_bytes_per_second;
    r.ceiling_flops_per_second = matrix_peak(s_.type, ceilings);
    return r;
  }

  const BenchSettings& s_;
  std::vector<Variant> variants_;
  std::vector<Model> models_;                // of the variants
  std::vector<std::vector<int64_t>> peaks_;  // [variant][point]
  std::map<int, kernels::Ceilings> ceilings_;
  std::vector<BenchResult> results_;
  Progress progress_;
};

}  // namespace

std::vector<BenchResult> bench_models(const BenchSettings& settings) {
  return ModelsBench(settings).run();
}

void check_bench(const BenchSettings& settings) {
  ModelsBench(settings).check();
}

}  // namespace hone
