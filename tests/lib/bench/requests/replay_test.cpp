#include "bench/requests/replay.h"

#include <doctest/doctest.h>

#include <fstream>
#include <set>
#include <utility>

#include "base/error.h"
#include "bench/requests/requests.h"
#include "bench/requests/simulate.h"
#include "dataset/tokenizer.h"
#include "nn/mixer.h"
#include "report/statistics.h"
#include "support/scratch.h"
#include "support/turns.h"

using namespace hone;

namespace {

Config tiny(const std::string& attention = "full") {
  Config c;
  c.context = 320;
  c.block.dim = 32;
  c.block.head_dim = 16;
  c.layers.assign(2, LayerBlueprint{2, 1, 48, "full"});
  set_attention(c, attention);
  return c;
}

struct Tiny {
  explicit Tiny(const Config& config) : model(config) { initialize(model, 5, 0.15); }
  Transformer model;
};

// A step takes a second for each token that is written and each piece of a prompt in it.
StepCosts a_second_each() {
  StepCosts costs;
  costs.behind.fill({.write = {.down = {1, 2}, .across = {0}, .seconds = {1, 2}},
                     .piece = {.down = {0, 1}, .across = {1, 2}, .seconds = {1, 1, 2, 2}}});
  costs.piece_more = costs.after_wait = {.down = {0}, .across = {1}, .seconds = {0}};
  return costs;
}

using Spans = std::vector<std::vector<Span>>;

// What an engine asks for, written down.
class Recorder : public Executor {
 public:
  Recorder(std::unique_ptr<Executor> of, Spans& spans, bool mixes) : of_(std::move(of)), spans_(spans), mixes_(mixes) {}
  const Config& config() const override { return of_->config(); }
  State& state() override { return of_->state(); }
  bool keeps() const override { return of_->keeps(); }
  bool mixes() const override { return mixes_; }
  double now() const override { return of_->now(); }
  void wait_until(double seconds) override { of_->wait_until(seconds); }
  Tensor read(std::vector<Span> spans, const Input& input, Phase phase) override {
    spans_.push_back(spans);
    return of_->read(std::move(spans), input, phase);
  }
  Tensor logits(const Tensor& hidden, Phase phase) override { return of_->logits(hidden, phase); }

 private:
  std::unique_ptr<Executor> of_;
  Spans& spans_;
  bool mixes_;
};

// As a machine with a clock of its own: products in tiles of 16 rows, attention that grows with what stands before a
// token and packs that once a piece, weights that are read once a call, a slow first call after a pause.
class Machine : public Executor {
 public:
  Machine(const Config& config, const EngineSettings& settings) : config_(config), state_(state_shape(settings)) {}
  const Config& config() const override { return config_; }
  State& state() override { return state_; }
  bool keeps() const override { return false; }
  bool mixes() const override { return true; }
  double now() const override { return now_; }
  void wait_until(double seconds) override {
    waited_ = waited_ || seconds > now_;
    now_ = std::max(now_, seconds);
  }
  Tensor read(std::vector<Span> spans, const Input& input, Phase) override {
    const int64_t rows = input.size();
    now_ += 6e-4 + 1.5e-3 * static_cast<double>((rows + 15) / 16) + (std::exchange(waited_, false) ? 8e-4 : 0);
    for (const Span& span : spans) {
      const bool step = span.phase == Phase::step;
      now_ += (step ? 4e-6 : 5e-7) * static_cast<double>(span.count * (span.first + (span.count + 1) / 2)) +
              (step ? 0 : 1e-5) * static_cast<double>(span.first);
    }
    return Tensor::zeros({rows, config_.block.dim});
  }
  Tensor logits(const Tensor& hidden, Phase) override {
    now_ += 2e-4 + 5e-5 * static_cast<double>(hidden.dim(0));
    return Tensor::zeros({hidden.dim(0), config_.vocabulary});
  }

 protected:
  void take(double seconds) { now_ += seconds; }

 private:
  const Config& config_;
  State state_;
  double now_ = 0;
  bool waited_ = false;
};

// With a cache: a piece of a prompt takes it from the next step, one of written tokens from the next piece; and what
// stands before a few texts stays in it from step to step.
class CachingMachine : public Machine {
 public:
  using Machine::Machine;
  static constexpr double behind_piece = 2e-3, piece_behind_write = 3e-3, found = 3e-6;
  static constexpr int64_t room = 512;  // tokens
  Tensor read(std::vector<Span> spans, const Input& input, Phase phase) override {
    const bool piece = spans.back().phase == Phase::prompt;
    int64_t before = 0;
    for (const Span& span : spans) before += span.phase == Phase::step ? span.first : 0;
    if (piece != piece_) take(piece ? piece_behind_write : behind_piece);
    if (!piece && !piece_ && before <= room) take(-found * static_cast<double>(before));
    piece_ = piece;
    return Machine::read(std::move(spans), input, phase);
  }

 private:
  bool piece_ = false;
};

// Whose memory has to be asked for first, for each number of rows that no block of about that size was used for.
class ColdMachine : public Machine {
 public:
  using Machine::Machine;
  Tensor read(std::vector<Span> spans, const Input& input, Phase phase) override {
    const int64_t rows = input.size();
    const auto block = sizes_.lower_bound(rows);
    if (block == sizes_.end() || *block > rows + rows / 8) {
      sizes_.insert(rows);
      take(0.02);
    }
    return Machine::read(std::move(spans), input, phase);
  }

 private:
  std::set<int64_t> sizes_;
};

// Which somebody else slows down for half a second.
class SharedMachine : public Machine {
 public:
  using Machine::Machine;
  Tensor read(std::vector<Span> spans, const Input& input, Phase phase) override {
    const double begin = now();
    Tensor hidden = Machine::read(std::move(spans), input, phase);
    if (begin > 5 && begin < 5.5) take(2 * (now() - begin));
    return hidden;
  }
};

std::vector<Arrival> at_once(int64_t count) {
  std::vector<Arrival> all;
  for (int64_t i = 0; i < count; ++i)
    all.push_back({.prompt = 20 + 37 * i % 200, .tokens = 1 + 13 * i % 100, .blocks = {i % 3}, .number = i + 1});
  return all;
}

EngineSettings settings_of(const Config& config, const std::string& batching, int64_t cache = 0) {
  EngineSettings s;
  s.parallel = 6;
  s.cache_tokens = cache;
  s.batching = batching_named(batching);
  return complete(config, s);
}

}  // namespace

TEST_CASE("a simulated engine plans as a real one does") {
  int64_t first = 0;
  for (const char* kind : {"full", "window:70:3", "routed:64:2"}) {
    int64_t turn = first++;
    for (const BatchingPolicy& policy : batching_policies()) {
      if (!hone::test::takes_turn(turn++, 2)) continue;
      const std::string batching = Batching{&policy, 4}.name();
      CAPTURE(kind);
      CAPTURE(batching);
      const Tiny t(tiny(kind));
      const EngineSettings s = settings_of(t.model.config(), batching, 384);
      const StepCosts costs = a_second_each();
      Spans real, simulated;
      int64_t preemptions = 0;
      const auto run = [&](std::unique_ptr<Executor> executor, Spans& spans) {
        Engine engine(std::make_unique<Recorder>(std::move(executor), spans, true), *byte_tokenizer(), s);
        const Replayed r = replay(engine, t.model.config(), at_once(24), {});
        CHECK(r.served.size() == 24);
        CHECK(r.stats.pages_in_use == 0);
        preemptions = r.stats.preemptions;
        return r.stats.cached_tokens;
      };
      const int64_t found = run(std::make_unique<ModelExecutor>(t.model, s), real);
      CHECK(found == run(std::make_unique<SimulatedExecutor>(t.model, s, costs), simulated));
      CHECK(found > 0);
      CHECK((preemptions > 0) == (batching != "none"));
      REQUIRE(real.size() == simulated.size());
      bool same = true;
      for (size_t i = 0; i < real.size(); ++i)
        same = same && std::ranges::equal(real[i], simulated[i], [](const Span& a, const Span& b) {
                 return a.sequence == b.sequence && a.first == b.first && a.count == b.count && a.phase == b.phase;
               });
      CHECK(same);
    }
  }
}

TEST_CASE("what requests wait for, by hand") {
  const Tiny t(tiny());
  const StepCosts costs = a_second_each();
  const std::vector<Arrival> arrivals = {
      {.seconds = 0, .prompt = 10, .tokens = 3, .number = 1},
      {.seconds = 0.5, .prompt = 10, .tokens = 1, .number = 2},
      {.seconds = 20, .prompt = 10, .tokens = 2, .number = 3},
      {.seconds = 20, .prompt = 400, .tokens = 2, .number = 4},
  };
  const auto run = [&](const std::string& batching, double speed = 1) {
    const EngineSettings s = settings_of(t.model.config(), batching);
    Engine engine(std::make_unique<SimulatedExecutor>(t.model, s, costs), *byte_tokenizer(), s);
    return replay(engine, t.model.config(), arrivals, {.speed = speed, .objective = slo_of("first_token=2s,token=1s")});
  };
  // None: the first is read in a second and has two tokens more, then the second one begins.
  Replayed r = run("none");
  CHECK(r.too_long == std::vector<int64_t>{4});
  REQUIRE(r.served.size() == 3);
  CHECK(r.served[0].first_token == 1);
  CHECK(r.served[0].done == 3);
  CHECK(r.served[0].between == 1);
  CHECK(r.served[1].began == 2.5);
  CHECK(r.served[1].first_token == 3.5);
  CHECK(r.served[2].first_token == 1);
  CHECK(r.seconds == 22);
  CHECK(r.met == 2);
  CHECK(r.gaps == std::vector<double>{1, 1, 1});
  // Continuous: the second one's prompt is read beside a step of the first.
  r = run("continuous");
  REQUIRE(r.served.size() == 3);
  CHECK(r.served[0].done == 2.5);  // of the second one, which ends first
  CHECK(r.served[1].done == 4);
  CHECK(r.served[1].between == 1.5);
  // Static: nobody joins.
  CHECK(run("static:4").served[1].first_token == 3.5);
  CHECK(run("none", 2).seconds == 12);
  // Both wait when the batch begins: both prompts are read before the first step, which writes for both.
  const EngineSettings s = settings_of(t.model.config(), "static:2");
  Engine engine(std::make_unique<SimulatedExecutor>(t.model, s, costs), *byte_tokenizer(), s);
  r = replay(engine, t.model.config(),
             {{.prompt = 5, .tokens = 2, .number = 1}, {.prompt = 5, .tokens = 2, .number = 2}}, {});
  CHECK(r.served[0].first_token == 1);
  CHECK(r.served[1].first_token == 2);
  CHECK(r.served[0].done == 4);
  CHECK(r.served[1].done == 4);
}

TEST_CASE("steps are measured at every size that an engine may take") {
  for (const char* kind : {"full", "window:70:3"}) {
    const Tiny t(tiny(kind));
    EngineSettings s = settings_of(t.model.config(), "continuous", 512);
    const StepCosts costs = measure_step_costs(t.model, s, 1, [](size_t done, size_t all) { CHECK(done <= all); });
    CHECK(costs.behind[0].write.down == std::vector<int64_t>{1, 2, 4, 6});
    CHECK(costs.behind[1].write.down == std::vector<int64_t>{1, 2, 5, 6});
    for (const StepCosts::Steps& steps : costs.behind) {
      CHECK(steps.piece.down == std::vector<int64_t>{0, 1, 4, 5});
      CHECK(steps.piece.across.back() == 320);
      for (const CostTable& table : {steps.write, steps.piece}) {
        CHECK(table.seconds.size() == table.down.size() * table.across.size());
        CHECK(std::ranges::all_of(table.seconds, [](double x) { return x > 0; }));
      }
    }
    CHECK(costs({.contexts = {100, 20}, .chunk = 64, .first = 64, .behind_piece = true}) > 0);
  }
}

TEST_CASE("steps are timed behind such as they come behind, and with texts that stay in the caches") {
  const Tiny t(tiny());
  EngineSettings s = settings_of(t.model.config(), "continuous");
  s.busy_chunk = 64;
  CachingMachine machine(t.model.config(), s);
  const StepCosts costs = measure_step_costs(machine, s, 2, [](size_t, size_t) {});
  const auto of = [](int64_t texts, int64_t before) {
    return std::vector<int64_t>(static_cast<size_t>(texts), before);
  };
  for (const int64_t texts : {1, 5, 6})
    for (const int64_t before : {0, 64}) {
      const double more =
          costs({.contexts = of(texts, before), .behind_piece = true}) - costs({.contexts = of(texts, before)});
      CHECK(more == doctest::Approx(CachingMachine::behind_piece +
                                    static_cast<double>(texts * before) * CachingMachine::found));
    }
  // Of 6 texts with 128 tokens before each nothing is found.
  CHECK(costs({.contexts = of(6, 128)}) - costs({.contexts = of(6, 0)}) == doctest::Approx(6 * 128 * 4e-6));
  CHECK(costs({.contexts = of(1, 128)}) - costs({.contexts = of(1, 0)}) == doctest::Approx(128 * 1e-6));
  for (const int64_t beside : {0, 1, 4})
    for (const int64_t chunk : {24, 136}) {
      const StepCosts::Shape behind{.contexts = of(beside, 0), .chunk = chunk};
      StepCosts::Shape piece = behind;
      piece.behind_piece = true;
      CHECK(costs(behind) - costs(piece) == doctest::Approx(CachingMachine::piece_behind_write));
    }
}

TEST_CASE("a simulated step costs what it does behind the one before") {
  const Tiny t(tiny());
  EngineSettings s = settings_of(t.model.config(), "none");
  s.chunk = s.busy_chunk = 64;
  StepCosts costs;
  const auto constant = [](double seconds) { return CostTable{.down = {0}, .across = {0}, .seconds = {seconds}}; };
  costs.behind = {StepCosts::Steps{constant(1), constant(10)}, StepCosts::Steps{constant(3), constant(20)}};
  costs.piece_more = constant(0);
  costs.after_wait = constant(5);
  Engine engine(std::make_unique<SimulatedExecutor>(t.model, s, costs), *byte_tokenizer(), s);
  const Replayed r = replay(engine, t.model.config(),
                            {{.prompt = 150, .tokens = 4, .number = 1},
                             {.seconds = 1, .prompt = 10, .tokens = 2, .number = 2},
                             {.seconds = 100, .prompt = 10, .tokens = 1, .number = 3},
                             {.seconds = 200, .prompt = 10, .tokens = 1, .number = 4}},
                            {});
  REQUIRE(r.served.size() == 4);
  CHECK(r.served[0].first_token == 10 + 20 + 20);  // pieces of 64, 64 and 22
  CHECK(r.gaps == std::vector<double>{3, 1, 1, 3});
  CHECK(r.served[1].first_token == 55 + 10 - 1);
  CHECK(r.served[2].first_token == 10 + 5);
  CHECK(r.served[3].first_token == 10 + 5);  // behind a piece, but behind a pause, too
}

TEST_CASE_TEMPLATE("a simulation waits as long as what it was measured of", Kind, Machine, CachingMachine) {
  const Tiny t(tiny());
  EngineSettings s = settings_of(t.model.config(), "continuous");
  for (const double rate : {4.0, 8.0}) {  // beyond, what waits makes much of little
    CAPTURE(rate);
    const std::vector<Arrival> arrivals = poisson_arrivals(rate, 300, {16, 160}, {8, 64}, 3);
    const auto run = [&](std::unique_ptr<Executor> executor) {
      Engine engine(std::move(executor), *byte_tokenizer(), s);
      return replay(engine, t.model.config(), arrivals, {});
    };
    Kind measured(t.model.config(), s);
    const StepCosts costs = measure_step_costs(measured, s, 3, [](size_t, size_t) {});
    CHECK(costs.spread.front() == doctest::Approx(1));
    CHECK(costs.spread.back() == doctest::Approx(1));
    const Replayed real = run(std::make_unique<Kind>(t.model.config(), s)),
                   simulated = run(std::make_unique<SimulatedExecutor>(t.model, s, costs));
    REQUIRE(simulated.served.size() == real.served.size());
    const auto alike = [&](const auto& times_of) {
      for (const int percent : {50, 95, 99}) {
        CAPTURE(percent);
        CHECK(percentile(times_of(simulated), percent) ==
              doctest::Approx(percentile(times_of(real), percent)).epsilon(0.1));
      }
    };
    const auto of_served = [](double ServedRequest::*member) {
      return [member](const Replayed& r) {
        std::vector<double> times;
        for (const ServedRequest& one : r.served) times.push_back(one.*member);
        return times;
      };
    };
    alike([](const Replayed& r) { return r.gaps; });
    alike(of_served(&ServedRequest::first_token));
    alike(of_served(&ServedRequest::done));
  }
}

TEST_CASE("what stands before a piece takes its time, however short the piece is") {
  const Tiny t(tiny());
  EngineSettings s = settings_of(t.model.config(), "continuous");
  s.busy_chunk = 64;
  Machine machine(t.model.config(), s);
  const StepCosts costs = measure_step_costs(machine, s, 1, [](size_t, size_t) {});
  for (const int64_t chunk : {1, 5, 24, 60, 64})
    for (const int64_t first : {16, 64, 150, 256}) {
      CAPTURE(chunk);
      CAPTURE(first);
      const auto more = static_cast<double>(first) * (1e-5 + 5e-7 * static_cast<double>(chunk));
      CHECK(costs({.contexts = {}, .chunk = chunk, .first = first}) - costs({.contexts = {}, .chunk = chunk}) ==
            doctest::Approx(more));
    }
}

TEST_CASE("what slows a machine down for a while changes no cost of a step") {
  const Tiny t(tiny());
  const EngineSettings s = settings_of(t.model.config(), "continuous");
  Machine machine(t.model.config(), s);
  SharedMachine shared(t.model.config(), s);
  const StepCosts expected = measure_step_costs(machine, s, 5, [](size_t, size_t) {}),
                  costs = measure_step_costs(shared, s, 5, [](size_t, size_t) {});
  CHECK(shared.now() > machine.now() + 0.2);
  const auto same = [](const CostTable& table, const CostTable& other) {
    REQUIRE(table.seconds.size() == other.seconds.size());
    for (size_t i = 0; i < table.seconds.size(); ++i) CHECK(table.seconds[i] == doctest::Approx(other.seconds[i]));
  };
  for (const bool behind : {false, true}) {
    same(costs.behind[behind].write, expected.behind[behind].write);
    same(costs.behind[behind].piece, expected.behind[behind].piece);
  }
  for (const double seconds : costs.after_wait.seconds) CHECK(seconds == doctest::Approx(8e-4));
  CHECK(costs.spread.back() + costs.piece_spread.back() > 3);
}

TEST_CASE("requests through what was warmed up wait for no memory") {
  const Tiny t(tiny());
  const EngineSettings s = settings_of(t.model.config(), "continuous");
  const std::vector<Arrival> arrivals = poisson_arrivals(6, 60, {16, 160}, {8, 64}, 4);
  const auto first_tokens = [&](std::unique_ptr<Executor> executor) {
    Engine engine(std::move(executor), *byte_tokenizer(), s);
    double all = 0;
    for (const ServedRequest& one : replay(engine, t.model.config(), arrivals, {}).served) all += one.first_token;
    return all;
  };
  const double expected = first_tokens(std::make_unique<Machine>(t.model.config(), s));
  auto warm = std::make_unique<ColdMachine>(t.model.config(), s);
  warm_up(*warm, s);
  CHECK(first_tokens(std::move(warm)) == doctest::Approx(expected).epsilon(1e-6));
  CHECK(first_tokens(std::make_unique<ColdMachine>(t.model.config(), s)) > expected * 1.1);
}

TEST_CASE("simulated steps vary as measured ones do, in the same way at every run") {
  const Tiny t(tiny());
  const EngineSettings s = settings_of(t.model.config(), "none");
  StepCosts costs = a_second_each();
  costs.spread = {0.5, 1, 3};
  costs.piece_spread = {2};  // pieces vary less than the short steps between them
  costs.after_wait.seconds = {3.5};
  const auto run = [&] {
    Engine engine(std::make_unique<SimulatedExecutor>(t.model, s, costs), *byte_tokenizer(), s);
    return replay(engine, t.model.config(), {{.seconds = 1, .prompt = 10, .tokens = 100, .number = 1}}, {});
  };
  const Replayed one = run(), other = run();
  CHECK(one.gaps == other.gaps);
  CHECK(std::set<double>(one.gaps.begin(), one.gaps.end()) == std::set<double>{0.5, 1, 3});
  // The first came after a pause.
  CHECK(one.served.at(0).first_token == 2 + 7);
}

TEST_CASE("the load that a way of batching holds is the highest that all loads below hold, too") {
  std::vector<RequestsResult> results;
  for (const auto& [load, met] : std::vector<std::pair<double, int64_t>>{{1, 10}, {2, 9}, {4, 8}, {8, 10}}) {
    RequestsResult r;
    r.model = "m.h5";
    r.batching = "continuous";
    r.load = r.offered = load;
    r.objective = slo_of("token=1s");
    r.replayed.served.resize(10);
    r.replayed.met = met;
    r.replayed.seconds = 5;
    r.replayed.stats.pages = 4;
    r.replayed.samples = {{.seconds = 4, .length = 4, .waiting = 3, .running = 2, .pages = 2, .page_tokens = 96},
                          {.seconds = 5, .length = 1, .waiting = 0, .running = 1, .pages = 1, .page_tokens = 64}};
    results.push_back(r);
  }
  REQUIRE(held_loads(results).size() == 1);
  CHECK(held_loads(results)[0].find("up to 2 a second") != std::string::npos);
  const std::string json = render(requests_report(results), Format::json);
  const auto row = nlohmann::json::parse(json)["rows"][1];
  CHECK(row["queue_mean"] == doctest::Approx(12.0 / 5));
  CHECK(row["queue_max"] == 3);
  CHECK(row["running_mean"] == doctest::Approx(9.0 / 5));
  CHECK(row["page_utilization"] == doctest::Approx((4 * 96 + 64) / (4.0 * 128 + 64)));
  CHECK(row["pages_used_max"] == doctest::Approx(0.5));
  CHECK(row["goodput_requests_per_second"] == doctest::Approx(9.0 / 5));
  CHECK(row["met_fraction"] == doctest::Approx(0.9));
  CHECK(requests_plot(results).find("first token, percentile 99") != std::string::npos);
  results.resize(1);
  CHECK(held_loads(results).empty());
}
