// Ranks that have a mixture's experts between them train it together, as threads here.
#include <doctest/doctest.h>

#include <cstdio>
#include <numeric>

#include "base/error.h"
#include "base/stop.h"
#include "lib/train/rank_runs.h"
#include "measure/footprint.h"
#include "support/turns.h"
#include "train/division.h"
#include "train/teacher.h"

using namespace hone;
using namespace hone::test;

namespace {

Config config_of_mixtures() {
  Config c = small_config();
  c.vocabulary = c.padded_vocabulary = 256;
  for (LayerBlueprint& layer : c.layers) {
    layer.experts = 4;
    layer.top_k = 2;
    layer.ffn = 32;
  }
  c.layers[1].shared_experts = 1;
  c.layers[1].shared_gate = true;
  return c;
}

RunSettings batches_of_experts(int64_t steps, int64_t batches) {
  RunSettings s = settings(steps);
  s.step.batch = 1;
  s.step.accumulate = batches;
  s.step.router.noise = RouterNoise::gaussian;
  s.step.router.z_weight = 1e-3;
  return s;
}

// Ranks in rows of `experts`.
struct ExpertLayout {
  int ranks, experts;
};

// The run of these ranks, from a checkpoint where one is named; its result on each.
std::vector<RunResult> run_experts(const ExpertLayout& layout, const RunSettings& settings,
                                   const std::string& resume = "") {
  return run_on_grid(
      layout.ranks, [&](const auto& all) { return RankGrid::of(all, division_named("expert"), layout.experts); },
      config_of_mixtures(), settings, resume);
}

}  // namespace

TEST_CASE("a run with experts on ranks is that of one process, and its checkpoint that of the whole") {
  const std::string path = "expert_test.h5", other = "expert_test_other.h5";
  RunSettings s = batches_of_experts(4, 4);
  s.average = average_rule("ema:0.9");
  s.keep_best = true;
  s.valid_every = 2;
  double tolerance = 1e-5;
  bool compares_arrays = false;
  int64_t turn = 0;
  SUBCASE("AdamW") {
    compares_arrays = true;
  }
  SUBCASE("Muon, and blocks that run again") {
    s.step.optimizer.kind = &optimizer_named("muon");
    s.step.recompute = recompute_plan("blocks");
    tolerance = 5e-4;  // its products are in bf16
    turn = 1;
  }
  SUBCASE("moments in 8 bits, a capacity of experts") {
    s.step.optimizer.moments = MomentForm::int8;
    s.step.router.capacity_factor = 1;
    tolerance = 1e-4;  // a moment that lies between two codes
    turn = 2;
  }
  s.checkpoint = path;
  const RunResult one = run_experts({1, 1}, s).front();
  const std::map<std::string, Tensor> expected = arrays_in(path);
  s.checkpoint = other;
  for (const ExpertLayout layout : {ExpertLayout{2, 2}, ExpertLayout{4, 2}, ExpertLayout{4, 4}}) {
    if (!takes_turn(turn++, 3)) continue;  // under the sanitizers each way to train on one layout
    CAPTURE(layout.ranks);
    CAPTURE(layout.experts);
    std::string written;
    // Twice where both kinds of rows have several ranks.
    for (int64_t launch = 0; launch < (layout.ranks > layout.experts ? rounds_of(2, 1) : 1); ++launch) {
      for (const RunResult& result : run_experts(layout, s)) {
        CHECK(result.loss == doctest::Approx(one.loss).epsilon(tolerance));
        CHECK(*result.valid_loss == doctest::Approx(*one.valid_loss).epsilon(tolerance));
        CHECK(result.tokens == one.tokens);
        CHECK(result.kept_step == one.kept_step);
      }
      if (launch > 0) CHECK(sha256_of_file(other) == written);  // the same ranks give the same bits
      written = sha256_of_file(other);
    }
    const std::map<std::string, Tensor> arrays = arrays_in(other);
    CHECK(arrays.size() == expected.size());
    for (const auto& [name, tensor] : arrays) {
      CAPTURE(name);
      REQUIRE(expected.contains(name));
      CHECK(tensor.shape() == expected.at(name).shape());
      if (compares_arrays && tensor.dtype() == DType::f32)  // small gradients turn up in AdamW
        CHECK(relative_error(tensor, expected.at(name), 1e-6) < 5e-3);
    }
  }
  for (const std::string& file : {path, other}) std::remove(file.c_str());
}

TEST_CASE("a run with experts goes on in any layout") {
  const std::string path = "expert_test_run.h5";
  const RunSettings s = batches_of_experts(8, 4);
  const RunResult straight = run_experts({1, 1}, s).front();
  RunSettings first = s;
  first.checkpoint = path;
  first.before_step = [](int64_t step) {
    if (step == 5) raise_stop(15);
  };
  const std::vector<ExpertLayout> layouts = {{1, 1}, {2, 1}, {2, 2}, {4, 2}};
  int64_t first_turn = 0;  // of the pairs every second, under the sanitizers every fourth: each layout on either side
  for (const ExpertLayout& begun : layouts) {
    CAPTURE(begun.ranks);
    CAPTURE(begun.experts);
    const std::vector<RunResult> stopped = run_experts(begun, first);
    raise_stop(0);
    for (const RunResult& result : stopped) {
      CHECK(result.signal == 15);
      CHECK(result.steps == 5);
      CHECK(result.checkpoint_saved);
    }
    int64_t turn = first_turn++;
    for (const ExpertLayout& later : layouts) {
      if (turn++ % rounds_of(2, 4) != 0) continue;
      for (const RunResult& result : run_experts(later, s, path)) {
        CHECK(result.loss == doctest::Approx(straight.loss).epsilon(1e-5));
        CHECK(*result.valid_loss == doctest::Approx(*straight.valid_loss).epsilon(1e-5));
      }
    }
  }
  std::remove(path.c_str());
}

TEST_CASE("the optimizer's state of an expert lies with one of its owners") {
  OptimizerSettings settings;
  Transformer whole(config_of_mixtures());
  initialize(whole, 1);
  const int64_t all = Optimizer(whole, settings).state_bytes();
  std::vector<int64_t> of_rank(4);
  run_thread_ranks(4, [&](const std::shared_ptr<Communicator>& ranks) {
    const RankGrid grid = RankGrid::of(ranks, division_named("expert"), 2);
    Transformer model(config_of_mixtures(), grid.row);
    initialize(model, 1);
    const Optimizer optimizer(model, settings, *grid.data);
    of_rank[static_cast<size_t>(ranks->rank())] = optimizer.state_bytes();
    for (const OwnedParameter& p : optimizer.parameters()) {
      CHECK(p.on(p.owner));
      CHECK(p.parameter->value.promised() == !p.on(ranks->rank()));
    }
  });
  CHECK(std::accumulate(of_rank.begin(), of_rank.end(), int64_t{0}) == all);
  CHECK(static_cast<double>(*std::ranges::max_element(of_rank)) < 0.35 * static_cast<double>(all));
}

TEST_CASE("the memory of a rank has its experts alone") {
  const Config c = config_of_mixtures();
  OptimizerSettings settings;
  const double all = optimizer_bytes(c, settings, 2, 1);
  run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
    const double own = optimizer_bytes(c, settings, 2, 2, ModelRanks(division_named("expert"), ranks));
    CHECK(own < 0.8 * all);
    CHECK(own > 0.4 * all);
    CHECK(own < optimizer_bytes(c, settings, 2, 2));
    TrainingShape shape = {2, 32};
    shape.expert_ranks = 2;
    CHECK(training_footprint(c, {2, 32}, 0, ModelRanks(division_named("expert"), ranks)).activations ==
          activation_bytes(c, shape));
  });
}

TEST_CASE("what some ranks alone have goes to one of those") {
  const std::vector<double> sizes = {9, 1, 1, 7, 2, 5, 3};
  const std::vector<int> columns = {1, 0, -1, 1, -1, 0, -1};
  const std::vector<int> owners = divide(sizes, 4, columns, 2);
  for (size_t i = 0; i < sizes.size(); ++i)
    if (columns[i] >= 0) CHECK(owners[i] % 2 == columns[i]);
  // By size: 9 to rank 1, 7 to 3, 5 to 0, 3 and 2 to 2, which then has as much as 0: the first 1 goes there.
  CHECK(owners == std::vector<int>{1, 0, 2, 3, 2, 0, 2});
  CHECK(divide(sizes, 2) == divide(sizes, 2, std::vector<int>(sizes.size(), -1), 1));
}

TEST_CASE("a mixture teaches that has its experts on ranks, too, and a dense model that each rank has whole") {
  for (const bool mixture : {true, false}) {
    CAPTURE(mixture);
    Config other = config_of_mixtures();
    if (!mixture) other.layers = small_config().layers;
    std::vector<StepResult> results;
    for (const int ranks : {1, 2}) {
      results.emplace_back();
      run_thread_ranks(ranks, [&](const std::shared_ptr<Communicator>& all) {
        StepSettings mine = batches_of_experts(1, 2).step;
        mine.grid = RankGrid::of(all, division_named("expert"), ranks);
        const auto teacher = std::make_shared<Transformer>(other, mine.grid.row);
        initialize(*teacher, 3, 0.3);
        mine.objectives.distillation = {model_teacher(teacher), 2, 1.5f, 0, 0};
        Transformer model(config_of_mixtures(), mine.grid.row);
        initialize(model, 1);
        TextBatches batches(BatchSampler(text(), 32, 1, Shuffle::windows));
        Trainer trainer(model, batches, mine);
        const StepResult result = trainer.step(0);
        if (all->rank() == 0) results.back() = result;
      });
    }
    CHECK(results[1].terms.at("teacher") == doctest::Approx(results[0].terms.at("teacher")).epsilon(1e-4));
    CHECK(results[1].gradient_norm == doctest::Approx(results[0].gradient_norm).epsilon(1e-4));
  }
}
