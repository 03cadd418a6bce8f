#include "bench/requests/requests.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <unordered_set>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/integers.h"
#include "base/log.h"
#include "base/spelling.h"
#include "base/units.h"
#include "bench/requests/simulate.h"
#include "io/checksum.h"
#include "kernels/parallel.h"
#include "measure/speed.h"
#include "model/store.h"
#include "model/verify_groups.h"

namespace hone {
namespace {

constexpr int64_t cost_repetitions = 5;
constexpr double cache_share = 0.5;  // of the memory that is left, for what the texts of a trace share

class RequestsBench {
 public:
  explicit RequestsBench(const RequestsSettings& settings) : s_(settings) {
    for (const double load : s_.loads) {
      if (s_.trace.empty())
        arrivals_.push_back(poisson_arrivals(load, s_.count, s_.prompt, s_.tokens, s_.seed));
      else if (arrivals_.empty())
        arrivals_.push_back(read_trace(s_.trace, s_.divide, s_.count));
    }
  }

  void check() {
    for (const std::string& path : s_.models) {
      const Model model = loaded(path);
      const EngineSettings engine = engine_of(model, s_.batching.front());
      require_some(model, engine);
      log_info("would replay {} with '{}' at {}", counted(arrivals_.front().size(), "request"), path,
               counted(s_.loads.size(), "load"));
    }
  }

  std::vector<RequestsResult> run() {
    for (const int threads : s_.thread_counts) {
      kernels::set_threads(threads);
      for (const std::string& path : s_.models) run(loaded(path), threads);
    }
    return std::move(results_);
  }

 private:
  Model loaded(const std::string& path) const {
    Model model = load_model(path, {.defer = true});
    verify_in_groups(model);
    set_rounding(model, s_.rounding);
    return model;
  }

  const std::vector<Arrival>& arrivals(size_t load) const { return arrivals_[std::min(load, arrivals_.size() - 1)]; }

  // Every way of batching has the same cache.
  EngineSettings engine_of(const Model& model, const Batching& batching) const {
    const Config& config = model.transformer->config();
    EngineSettings engine = complete(config, s_.engine);
    if (s_.engine.cache_tokens == 0 && engine.reuse) {
      // What texts share has to stay there until the next one comes.
      const int64_t most = pages_in_memory(config, engine, cache_share) * engine.page_rows;
      engine.cache_tokens = std::max(engine.cache_tokens, std::min(engine.cache_tokens + shared_tokens(engine), most));
    }
    engine.batching = batching;
    return complete(config, engine);
  }

  // Of all blocks that a trace names, with what the last page of each has besides.
  int64_t shared_tokens(const EngineSettings& engine) const {
    std::unordered_set<int64_t> blocks;
    for (const Arrival& arrival : arrivals_.front()) blocks.insert(arrival.blocks.begin(), arrival.blocks.end());
    return static_cast<int64_t>(blocks.size()) * ceil_div(ceil_div(trace_block, s_.divide), engine.page_rows) *
           engine.page_rows;
  }

  void require_some(const Model& model, const EngineSettings& engine) const {
    if (std::ranges::none_of(arrivals_.front(), [&](const Arrival& arrival) { return fits(arrival, engine); }))
      throw input_error("every request is longer than the {} tokens that a text of '{}' may have", engine.capacity,
                        model.path);
  }
  static bool fits(const Arrival& arrival, const EngineSettings& engine) {
    return arrival.prompt + arrival.tokens - 1 <= engine.capacity;
  }

  void run(const Model& model, int threads) {
    require_some(model, engine_of(model, s_.batching.front()));
    StepCosts costs;
    if (s_.simulate) costs = costs_of(model, threads);
    bool named = false;
    for (const Batching& batching : s_.batching)
      for (size_t load = 0; load < s_.loads.size(); ++load) {
        results_.push_back(measure(model, threads, batching, load, costs));
        if (!named) name_too_long(results_.back());
        named = true;
      }
  }

  RequestsResult measure(const Model& model, int threads, const Batching& batching, size_t load,
                         const StepCosts& costs) {
    const Transformer& transformer = *model.transformer;
    const auto tokenizer = make_tokenizer(model.tokenizer);
    RequestsResult r;
    r.engine = engine_of(model, batching);
    std::unique_ptr<Executor> executor;
    if (s_.simulate)
      executor = std::make_unique<SimulatedExecutor>(transformer, r.engine, costs);
    else
      executor = std::make_unique<ModelExecutor>(transformer, r.engine);
    if (!s_.simulate) warm_up(*executor, r.engine);
    Engine engine(std::move(executor), *tokenizer, r.engine);
    const std::vector<Arrival>& all = arrivals(load);
    ReplaySettings replay_settings{.speed = s_.trace.empty() ? 1 : s_.loads[load],
                                   .divide = s_.divide,
                                   .seed = s_.seed,
                                   .objective = s_.objective};
    replay_settings.progress = [&](size_t done, const EngineStats& stats) {
      if (s_.simulate && stats.steps % 1000) return;
      progress_.show(fmt::format("{}, {}, load {:g}: {}/{} requests, {} at once, {} waiting", model.path,
                                 batching.name(), s_.loads[load], done, all.size(), stats.running, stats.waiting));
    };
    const Stopwatch watch;
    r.replayed = replay(engine, transformer.config(), all, replay_settings);
    r.wall_seconds = watch.seconds();
    r.model = model.path;
    r.form = weight_forms(transformer);
    r.batching = batching.name();
    r.requests = s_.trace.empty() ? "poisson" : s_.trace;
    r.precision = s_.precision;
    r.threads = threads;
    r.load = s_.loads[load];
    const double span = all.back().seconds / replay_settings.speed;
    r.offered = s_.trace.empty() ? r.load : span > 0 ? static_cast<double>(all.size() - 1) / span : 0;
    r.simulated = s_.simulate;
    r.count = all.size();
    r.objective = s_.objective;
    return r;
  }

  StepCosts costs_of(const Model& model, int threads) {
    // For the most that any way of batching asks for.
    EngineSettings engine = complete(model.transformer->config(), s_.engine);
    const std::string config = to_json(model.transformer->config()).dump();
    const nlohmann::json of = {{"cpu", cpu_model()},
                               {"isa", std::string(name_of(isa()))},
                               {"threads", threads},
                               {"precision", s_.precision},
                               {"form", weight_forms(*model.transformer)},
                               {"file_bytes", std::filesystem::file_size(model.path)},
                               {"configuration", checksum_of(config.data(), config.size())},
                               {"parallel", engine.parallel},
                               {"capacity", engine.capacity},
                               {"chunk", engine.chunk},
                               {"busy_chunk", engine.busy_chunk}};
    if (!s_.costs.empty() && ::access(s_.costs.c_str(), F_OK) == 0) return read_step_costs(s_.costs, of);
    const Stopwatch watch;
    StepCosts costs = measure_step_costs(*model.transformer, engine, cost_repetitions, [&](size_t done, size_t all) {
      progress_.show(fmt::format("measuring steps of '{}': {} of {}", model.path, done, all));
    });
    costs.of = of;
    log_info("steps of '{}' were measured in {}", model.path, format_duration(watch.seconds()));
    if (!s_.costs.empty()) write_text_file(s_.costs, json_of(costs).dump(1) + "\n", false);
    return costs;
  }

  void name_too_long(const RequestsResult& r) const {
    const std::vector<int64_t>& all = r.replayed.too_long;
    constexpr size_t most = 5;
    for (size_t i = 0; i < std::min(most, all.size()); ++i)
      log_warning("{} {} is longer than the {} tokens that a text of '{}' may have, and left out",
                  s_.trace.empty() ? "request" : fmt::format("'{}' line", s_.trace), all[i], r.engine.capacity,
                  r.model);
    if (all.size() > most) log_warning("and so {} more", all.size() - most);
  }

  const RequestsSettings& s_;
  std::vector<std::vector<Arrival>> arrivals_;  // of each load; of a trace one for all
  std::vector<RequestsResult> results_;
  Progress progress_;
};

}  // namespace

std::vector<RequestsResult> bench_requests(const RequestsSettings& settings) {
  return RequestsBench(settings).run();
}

void check_requests(const RequestsSettings& settings) {
  RequestsBench(settings).check();
}

}  // namespace hone
