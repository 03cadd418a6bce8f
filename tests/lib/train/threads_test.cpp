// Ranks that train as threads of one process: tests/run.sh runs these under the thread sanitizer, too.
#include <doctest/doctest.h>

#include <cstdio>

#include "base/error.h"
#include "base/stop.h"
#include "comm/thread_ranks.h"
#include "lib/train/rank_runs.h"
#include "lib/train/runs.h"

using namespace hone;
using namespace hone::test;

namespace {

using Ranks = std::shared_ptr<Communicator>;

RunSettings of_four_batches(int64_t steps) {
  RunSettings s = settings(steps);
  s.step.batch = 1;
  s.step.accumulate = 4;
  s.valid_every = 2;
  return s;
}

std::map<std::string, Tensor> trained(int ranks, const RunSettings& settings) {
  std::map<std::string, Tensor> parameters;
  const Corpus corpus = text(), valid = text().slice(0, 500);
  run_thread_ranks(ranks, [&](const Ranks& all) {
    Model own = fresh();
    RunSettings mine = settings;
    mine.step.grid = RankGrid::of(all);
    run_training(own, corpus, &valid, mine);
    if (all->rank() == all->size() - 1) parameters = after(own);
  });
  return parameters;
}

}  // namespace

TEST_CASE("threads that are ranks end with the bits of one, and write its checkpoint") {
  const std::string path = "threads_test_run.h5";
  RunSettings s = of_four_batches(4);
  s.checkpoint = path;
  s.save_every = 2;
  const auto one = trained(1, s);
  const std::string checkpoint = sha256_of_file(path);
  for (const int ranks : {2, 4}) {
    std::remove(path.c_str());
    CHECK(equal(trained(ranks, s), one));
    CHECK(sha256_of_file(path) == checkpoint);
  }
  std::remove(path.c_str());
}

TEST_CASE("a rank that fails alone in the middle of a step ends all with its words") {
  struct Failing : TextBatches {
    using TextBatches::TextBatches;
    int left = 3;
    void next(int64_t sequences, TrainingBatch& batch) override {
      if (left-- == 0)
        throw input_error("of one rank alone");  // of what the data has, before which others would be kept
      TextBatches::next(sequences, batch);
    }
  };
  for (const bool meanwhile : {true, false}) {
    CAPTURE(meanwhile);
    const std::string path = "threads_test_alone.h5";
    RunSettings s = of_four_batches(6);
    s.checkpoint = path;
    if (!meanwhile) s.step.layer_dropout.most = 0.1;  // which sends all gradients behind the batch
    for (const int failing : {0, 1}) {
      std::string said;
      try {
        run_thread_ranks(2, [&](const Ranks& all) {
          Model own = fresh();
          RunSettings mine = s;
          mine.step.grid = RankGrid::of(all);
          const Corpus corpus = text();
          Failing batches(BatchSampler(corpus, mine.context, mine.step.seed, mine.shuffle));
          if (all->rank() != failing) batches.left = 1000;
          run_training(own, RunData{batches, {}}, mine, nullptr);
        });
      } catch (const Error& error) {
        said = error.what();
      }
      CHECK(said == "of one rank alone");
    }
    std::remove(path.c_str());
  }
}

TEST_CASE("a signal to the process stops all ranks at one step") {
  RunSettings s = of_four_batches(50);
  std::vector<RunResult> results(2);
  const Corpus corpus = text();
  run_thread_ranks(2, [&](const Ranks& all) {
    Model own = fresh();
    RunSettings mine = s;
    mine.step.grid = RankGrid::of(all);
    if (all->rank() == 1)
      mine.before_step = [](int64_t step) {
        if (step == 3) raise_stop(15);
      };
    else
      mine.before_step = [](int64_t) {};
    results[static_cast<size_t>(all->rank())] = run_training(own, corpus, nullptr, mine);
  });
  raise_stop(0);
  CHECK(results[0].signal == 15);
  CHECK(results[1].signal == 15);
  CHECK(results[0].steps == results[1].steps);
  CHECK(results[0].steps == 3);
}

TEST_CASE("parts of a model train as threads") {
  Config config = small_config();
  config.vocabulary = config.padded_vocabulary = 256;
  RunSettings s = of_four_batches(2);
  const auto grid = [](Ranks all) { return RankGrid::of(std::move(all), *divisions().data(), 2); };
  const std::vector<RunResult> results = run_on_grid(4, grid, config, s, "");
  for (const RunResult& result : results) CHECK(result.loss == results.front().loss);
}
