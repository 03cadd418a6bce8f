// Ranks with parts of one model train it together, as threads here.
#include <doctest/doctest.h>

#include <cstdio>

#include "base/error.h"
#include "base/stop.h"
#include "lib/train/rank_runs.h"
#include "support/turns.h"
#include "train/teacher.h"

using namespace hone;
using namespace hone::test;

namespace {

Config config_in_parts() {
  Config c = small_config();
  c.vocabulary = c.padded_vocabulary = 256;
  c.layers = {{4, 2, 96, "full"}, {2, 2, 64, "full"}};
  return c;
}

RunSettings batches_of_one(int64_t steps, int64_t batches) {
  RunSettings s = settings(steps);
  s.step.batch = 1;
  s.step.accumulate = batches;
  return s;
}

// The run of ranks in rows of `tensor`, from a checkpoint where one is named; its result on each.
std::vector<RunResult> run_grid(int ranks, int tensor, const RunSettings& settings, const std::string& resume = "") {
  return run_on_grid(
      ranks, [&](const auto& all) { return RankGrid::of(all, division_named("tensor"), tensor); }, config_in_parts(),
      settings, resume);
}

}  // namespace

TEST_CASE("a run in parts is that of one process, and its checkpoint that of the whole") {
  const std::string path = "tensor_test.h5", other = "tensor_test_other.h5";
  RunSettings s = batches_of_one(6, 2);
  s.average = average_rule("ema:0.9");
  s.keep_best = true;
  s.valid_every = 2;
  s.checkpoint = path;
  const RunResult one = run_grid(1, 1, s).front();
  const std::map<std::string, Tensor> expected = arrays_in(path);
  s.checkpoint = other;
  struct Layout {
    int ranks, tensor;
  };
  for (const Layout layout : {Layout{2, 2}, Layout{4, 2}}) {
    CAPTURE(layout.ranks);
    for (const RunResult& result : run_grid(layout.ranks, layout.tensor, s)) {
      CHECK(result.loss == doctest::Approx(one.loss).epsilon(1e-5));
      CHECK(*result.valid_loss == doctest::Approx(*one.valid_loss).epsilon(1e-5));
      CHECK(result.tokens == one.tokens);
      CHECK(result.kept_step == one.kept_step);
    }
    const std::map<std::string, Tensor> arrays = arrays_in(other);
    CHECK(arrays.size() == expected.size());
    for (const auto& [name, tensor] : arrays) {
      CAPTURE(name);
      CHECK(tensor.shape() == expected.at(name).shape());
      CHECK(relative_error(tensor, expected.at(name)) < 2e-3);  // AdamW turns the last digits of small gradients up
    }
  }
  for (const std::string& file : {path, other}) std::remove(file.c_str());
}

TEST_CASE("a run goes on in any layout") {
  const std::string path = "tensor_test_run.h5";
  const RunSettings s = batches_of_one(8, 2);
  const RunResult straight = run_grid(1, 1, s).front();
  RunSettings first = s;
  first.checkpoint = path;
  first.before_step = [](int64_t step) {
    if (step == 5) raise_stop(15);
  };
  struct Layout {
    int ranks, tensor;
  };
  int64_t first_turn = 0;  // of the pairs two of three, under the sanitizers one: each layout on either side
  for (const Layout begun : {Layout{1, 1}, Layout{2, 1}, Layout{2, 2}, Layout{4, 2}}) {
    CAPTURE(begun.ranks);
    CAPTURE(begun.tensor);
    const std::vector<RunResult> stopped = run_grid(begun.ranks, begun.tensor, first);
    raise_stop(0);
    for (const RunResult& result : stopped) {
      CHECK(result.signal == 15);
      CHECK(result.steps == 5);
      CHECK(result.checkpoint_saved);
    }
    int64_t turn = first_turn++;
    for (const Layout later : {Layout{1, 1}, Layout{2, 1}, Layout{2, 2}}) {
      if (turn++ % 3 >= rounds_of(2, 1)) continue;
      for (const RunResult& result : run_grid(later.ranks, later.tensor, s, path)) {
        CHECK(result.loss == doctest::Approx(straight.loss).epsilon(1e-5));
        CHECK(*result.valid_loss == doctest::Approx(*straight.valid_loss).epsilon(1e-5));
      }
    }
  }
  std::remove(path.c_str());
}

TEST_CASE("the norm of gradients in parts is that of the whole") {
  RunSettings s = batches_of_one(1, 2);
  std::vector<double> norms;
  for (const int tensor : {1, 2}) {
    norms.emplace_back();
    run_thread_ranks(tensor, [&](const std::shared_ptr<Communicator>& all) {
      StepSettings mine = s.step;
      mine.grid = RankGrid::of(all, division_named("tensor"), tensor);
      Transformer model(config_in_parts(), mine.grid.row);
      initialize(model, 1);
      TextBatches batches(BatchSampler(text(), 32, 1, Shuffle::windows));
      Trainer trainer(model, batches, mine);
      const StepResult result = trainer.step(0);
      if (all->rank() == 0) norms.back() = result.gradient_norm;
    });
  }
  CHECK(norms[1] == doctest::Approx(norms[0]).epsilon(1e-5));
}

TEST_CASE("a teacher is learned from in parts, and where it has another shape whole") {
  Config odd = config_in_parts();
  odd.block.dim = 36;
  odd.layers = {{3, 3, 33, "full"}};
  for (const bool whole : {false, true}) {
    CAPTURE(whole);
    std::vector<StepResult> results;
    for (const int tensor : {1, 2}) {
      results.emplace_back();
      run_thread_ranks(tensor, [&](const std::shared_ptr<Communicator>& all) {
        StepSettings mine = batches_of_one(1, 2).step;
        mine.grid = RankGrid::of(all, division_named("tensor"), tensor);
        const auto teacher =
            std::make_shared<Transformer>(whole ? odd : config_in_parts(), whole ? ModelRanks() : mine.grid.row);
        initialize(*teacher, 3, 0.3);
        mine.objectives.distillation = {model_teacher(teacher), 2, 1.5f, whole ? 0.0f : 0.5f, 0};
        Transformer model(config_in_parts(), mine.grid.row);
        initialize(model, 1);
        TextBatches batches(BatchSampler(text(), 32, 1, Shuffle::windows));
        Trainer trainer(model, batches, mine);
        const StepResult result = trainer.step(0);
        if (all->rank() == 0) results.back() = result;
      });
    }
    for (const auto& [name, value] : results[0].terms)
      CHECK(results[1].terms.at(name) == doctest::Approx(value).epsilon(1e-5));
    CHECK(results[1].gradient_norm == doctest::Approx(results[0].gradient_norm).epsilon(1e-4));
    CHECK(results[0].terms.size() == (whole ? 2U : 3U));
  }
}

TEST_CASE("optimizers of whole matrices are refused") {
  for (const bool muon : {true, false})
    run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& all) {
      OptimizerSettings settings;
      if (muon) settings.kind = &optimizer_named("muon");
      settings.moments = muon ? MomentForm::f32 : MomentForm::int8;
      Transformer model(config_in_parts(), ModelRanks(division_named("tensor"), all));
      CHECK_THROWS_AS(Optimizer(model, settings), Error);
    });
}
