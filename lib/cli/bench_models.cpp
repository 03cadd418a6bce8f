#include "cli/bench_models.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/log.h"
#include "base/memory_limit.h"
#include "cli/bench_memory.h"
#include "cli/precision.h"
#include "cli/routing_report.h"
#include "kernels/parallel.h"
#include "measure/ceilings_cache.h"
#include "measure/footprint.h"
#include "measure/kernel_bench.h"
#include "measure/machine.h"
#include "measure/memory.h"
#include "measure/speed.h"
#include "report/statistics.h"

namespace hone::cli {
namespace {

class ModelsBench {
 public:
  ModelsBench(const BenchOptions& options, const Common& common)
      : o_(options), common_(common), points_(bench_points(options, common)) {
    for (const std::string& path : o_.models) {
      if (o_.attention.empty()) variants_.push_back({path, ""});
      for (const std::string& kinds : o_.attention) variants_.push_back({path, kinds});
    }
  }

  std::vector<Row> run() {
    require_memory();
    // While this process is still small.
    if (!common_.dry_run)
      for (const Variant& variant : variants_) peaks_.push_back(in_own_process([&] { return peaks_of(variant); }));
    for (const Variant& variant : variants_) models_.push_back(load(variant));
    if (common_.dry_run) {
      dry_run();
      return {};
    }
    for (const BenchPoint& point : points_)
      if (!ceilings_.contains(point.threads))
        ceilings_[point.threads] = machine_ceilings(point.threads, o_.refresh_ceilings, product_rate);
    for (size_t i = 0; i < points_.size(); ++i) measure_point(i);
    return std::move(rows_);
  }

 private:
  // A model with kinds of attention, its own where there are none.
  struct Variant {
    std::string path, kinds;
  };

  // For prompts longer than its context too: kinds must fit the longest.
  Model load(const Variant& variant) const {
    Model model = load_model(variant.path, {.defer = !o_.train});
    if (o_.train) require_finite(model);
    int64_t longest = 0;
    for (const BenchPoint& point : points_) longest = std::max(longest, point.prompt);
    if (!variant.kinds.empty()) model.transformer->set_attention(variant.kinds, longest);
    return model;
  }

  std::string name_of(size_t m) const {
    return variants_[m].kinds.empty() ? models_[m].path
                                      : fmt::format("{} with {}", models_[m].path, variants_[m].kinds);
  }

  // Of each model at each point, before the first is loaded.
  void require_memory() const {
    for (const Variant& variant : variants_) {
      Config config = config_from_json(read_model_file(variant.path, {.parameters = false}).config, variant.path);
      if (!variant.kinds.empty()) set_attention(config, variant.kinds);
      for (const BenchPoint& point : points_) {
        const int64_t prompt = point.prompt ? point.prompt : config.context;
        const Footprint need = o_.train ? training_footprint(config, point.batch, prompt, o_.type())
                                        : generation_footprint(config, point.batch, sum_of(prompt, o_.generate),
                                                               o_.prefill_chunk, o_.type());
        require_memory_for(
            need, fmt::format("'{}' with --batch {}", variant.path, point.batch),
            o_.train ? "choose a smaller --batch or --prompt" : "choose a smaller --batch, --prompt or --generate");
      }
    }
  }

  std::unique_ptr<Measurement> begin(Model& model, const BenchPoint& point) const {
    return o_.train ? measure_training(model, point, o_, common_.seed) : measure_generation(model, point, o_);
  }

  // The most memory at each point, of a process that holds this model alone.
  std::vector<int64_t> peaks_of(const Variant& variant) const {
    kernels::set_threads(points_.front().threads);
    Model model = load(variant);
    std::vector<int64_t> peaks;
    for (const BenchPoint& point : points_) {
      kernels::set_threads(point.threads);
      release_pool();
      reset_peak_rss();
      begin(model, point)->repeat(common_.seed, false);
      peaks.push_back(peak_rss_bytes());
    }
    return peaks;
  }

  void dry_run() {
    for (size_t m = 0; m < models_.size(); ++m)
      for (const BenchPoint& point : points_) {
        begin(models_[m], point);
        log_info("would measure '{}': {} thread{}, batch {}{}", name_of(m), point.threads,
                 point.threads == 1 ? "" : "s", point.batch,
                 point.prompt ? fmt::format(", {} {}", o_.train ? "context" : "prompt", point.prompt) : "");
      }
  }

  // Models take turns, so that what else the machine does meanwhile hits all of them alike.
  void measure_point(size_t index) {
    const BenchPoint& point = points_[index];
    kernels::set_threads(point.threads);
    std::vector<std::unique_ptr<Measurement>> measurements;
    for (Model& model : models_) measurements.push_back(begin(model, point));
    for (int64_t repetition = -o_.warmup; repetition < o_.repeat; ++repetition)
      for (size_t m = 0; m < models_.size(); ++m) {
        progress_.show(fmt::format("setting {} of {}, {} {} of {}: {}", index + 1, points_.size(),
                                   repetition < 0 ? "warming up" : "repetition",
                                   repetition < 0 ? repetition + o_.warmup + 1 : repetition + 1,
                                   repetition < 0 ? o_.warmup : o_.repeat, name_of(m)));
        measurements[m]->repeat(common_.seed + static_cast<uint64_t>(repetition + o_.warmup), repetition >= 0);
        log_debug("measured '{}', repetition {}", name_of(m), repetition);
      }
    const auto first = measurements.front()->rates();
    for (size_t m = 0; m < models_.size(); ++m) add_row(index, m, *measurements[m], first);
  }

  void add_row(size_t index, size_t m, const Measurement& measurement,
               const std::vector<std::pair<std::string, double>>& first) {
    const BenchPoint& point = points_[index];
    const kernels::Ceilings& ceilings = ceilings_.at(point.threads);
    Transformer& model = *models_[m].transformer;
    Row row;
    row.set("model", models_[m].path)
        .set("form", weight_forms(model))
        .set("attention", attention_of(model.config()))
        .set("batch", point.batch)
        .set("threads", point.threads);
    measurement.describe(row, ceilings);
    if (models_.size() > 1) {
      const auto own = measurement.rates();
      for (size_t i = 0; i < own.size(); ++i) row.set(own[i].first + "_ratio", own[i].second / first[i].second);
    }
    if (index < peaks_[m].size()) row.set("peak_rss_bytes", peaks_[m][index]);
    const ModelSize size = size_of(model);
    row.set("file_bytes", static_cast<int64_t>(std::filesystem::file_size(models_[m].path)));
    row.set("weight_bytes", size.weight_bytes).set("parameters", size.parameters);
    row.set("active_parameters", size.active_parameters);
    row.set("nonzero_parameters", size.nonzero_parameters).set("sparsity", size.sparsity());
    row.set("zero_fraction", size.zero_fraction());
    row.set("precision", precision_in_use(o_.type())).set("repeat", o_.repeat);
    row.set("ceiling_read_bytes_per_second", ceilings.read_bytes_per_second);
    row.set("ceiling_flops_per_second", matrix_peak(o_.type(), ceilings));
    rows_.push_back(std::move(row));
  }

  const BenchOptions& o_;
  const Common& common_;
  std::vector<BenchPoint> points_;
  std::vector<Variant> variants_;
  std::vector<Model> models_;                // of the variants
  std::vector<std::vector<int64_t>> peaks_;  // [variant][point]
  std::map<int, kernels::Ceilings> ceilings_;
  std::vector<Row> rows_;
  Progress progress_;
};

const Cell* find(const Row& row, std::string_view name) {
  for (const auto& [key, cell] : row.cells())
    if (key == name) return &cell;
  return nullptr;
}

bool same_in_all(const std::vector<Row>& rows, const std::string& name) {
  const Cell* first = find(rows.front(), name);
  for (const Row& row : rows)
    if (const Cell* cell = find(row, name); !first || !cell || *cell != *first) return false;
  return true;
}

bool ends_with_any(std::string_view name, std::initializer_list<const char*> ends) {
  for (const char* end : ends)
    if (name.ends_with(end)) return true;
  return false;
}

}  // namespace

void set_samples(Row& row, const std::string& name, const std::vector<double>& samples) {
  const Summary summary = summarize(samples);
  row.set(name, summary.p50).set(name + "_spread", summary.spread);
  row.set(name + "_min", summary.min).set(name + "_max", summary.max);
}

std::vector<Row> bench_models(const BenchOptions& options, const Common& common) {
  return ModelsBench(options, common).run();
}

Report report_of(const std::vector<Row>& rows, const std::vector<std::string>& common_columns) {
  Report report;
  std::vector<std::string> moved;
  for (const std::string& name : common_columns)
    if (!rows.empty() && same_in_all(rows, name)) moved.push_back(name);
  for (const Row& row : rows) {
    Row rest;
    for (const auto& [name, cell] : row.cells())
      if (std::find(moved.begin(), moved.end(), name) == moved.end()) rest.set(name, cell);
    report.add(rest);
  }
  for (const std::string& name : moved) report.common().set(name, *find(rows.front(), name));
  const Machine machine = this_machine();
  report.common().set("cpu", machine.cpu).set("cores", machine.cores);
  if (rows.empty() || !find(rows.front(), "isa")) report.common().set("isa", machine.isa);
  for (const Report::Column& column : std::vector<Report::Column>(report.columns())) {
    if (column.name.ends_with("_spread")) report.show(column.name, Display::count, 0);
    if (column.name.ends_with("_ratio")) report.show(column.name, Display::fixed, 2);
    if (ends_with_any(column.name, {"_min", "_max", "flops_per_second", "read_bytes_per_second", "parameters"}))
      report.show_detail(column.name);
  }
  hide_routing_details(report);
  return report;
}

}  // namespace hone::cli
