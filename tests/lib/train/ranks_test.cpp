// Ranks that train together, as threads here: their run is that of one process with as many batches a step, to the bit.
#include <doctest/doctest.h>

#include <cstdio>
#include <numeric>

#include "base/error.h"
#include "base/stop.h"
#include "comm/thread_ranks.h"
#include "lib/train/runs.h"
#include "train/division.h"

using namespace hone;
using namespace hone::test;

namespace {

RunSettings of_batches(int64_t steps, int64_t batches) {
  RunSettings s = settings(steps);
  s.step.batch = 1;
  s.step.accumulate = batches;
  return s;
}

struct Ended {
  std::map<std::string, Tensor> parameters;
  RunResult result;
};

// Of every rank.
std::vector<Ended> run_on(int ranks, const RunSettings& settings, const Model* model = nullptr,
                          const ModelFile* resume = nullptr) {
  std::vector<Ended> ended(static_cast<size_t>(ranks));
  const Corpus corpus = text(), valid = text().slice(0, 500);
  run_thread_ranks(ranks, [&](const std::shared_ptr<Communicator>& all) {
    Model own = fresh();
    if (model) put_parameters(*own.transformer, copy_parameters(*model->transformer));
    RunSettings mine = settings;
    mine.step.grid = RankGrid::of(all);
    Ended& end = ended[static_cast<size_t>(all->rank())];
    end.result = run_training(own, corpus, &valid, mine, resume);
    end.parameters = after(own);
  });
  return ended;
}

void check_alike(const std::vector<Ended>& ended, const Ended& one) {
  for (const Ended& end : ended) {
    CHECK(equal(end.parameters, one.parameters));
    CHECK(end.result.loss == one.result.loss);
    CHECK(end.result.valid_loss == one.result.valid_loss);
    CHECK(end.result.tokens == one.result.tokens);
  }
}

}  // namespace

TEST_CASE("ranks share a step and end with the bits of one process") {
  RunSettings s = of_batches(6, 4);
  SUBCASE("AdamW") {}
  SUBCASE("Muon, an average, and the best of both") {
    s.step.optimizer.kind = &optimizer_named("muon");
    s.average = average_rule("ema:0.9");
    s.keep_best = true;
    s.valid_every = 2;
  }
  SUBCASE("moments in 8 bits") {
    s.step.optimizer.moments = MomentForm::int8;
  }
  const Ended one = run_on(1, s).front();
  for (const int ranks : {2, 4}) check_alike(run_on(ranks, s), one);
}

TEST_CASE("three ranks add in the order of one process") {
  const RunSettings s = of_batches(4, 3);
  check_alike(run_on(3, s), run_on(1, s).front());
}

TEST_CASE("the state of the optimizer is divided") {
  for (const OptimizerKind& kind : optimizers()) {
    CAPTURE(kind.name);
    RunSettings s = of_batches(2, 2);
    s.step.optimizer.kind = &kind;
    Model model = fresh();
    const int64_t whole = Optimizer(*model.transformer, s.step.optimizer).state_bytes();
    std::vector<int64_t> of_rank(2);
    run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
      Model own = fresh();
      of_rank[static_cast<size_t>(ranks->rank())] = Optimizer(*own.transformer, s.step.optimizer, *ranks).state_bytes();
    });
    CHECK(of_rank[0] + of_rank[1] == whole);
    CHECK(static_cast<double>(*std::ranges::max_element(of_rank)) < 0.6 * static_cast<double>(whole));
  }
}

TEST_CASE("a checkpoint does not depend on how many ranks wrote it") {
  const std::string path = "ranks_test_run.h5";
  RunSettings s = of_batches(8, 4);
  const Ended straight = run_on(1, s).front();
  RunSettings first = s;
  first.checkpoint = path;
  first.before_step = [](int64_t step) {
    if (step == 5) raise_stop(15);
  };
  std::string whole;
  for (const int writers : {1, 4}) {
    CAPTURE(writers);
    const std::vector<Ended> stopped = run_on(writers, first);
    raise_stop(0);
    for (const Ended& end : stopped) {
      CHECK(end.result.signal == 15);
      CHECK(end.result.steps == 5);
      CHECK(end.result.checkpoint_saved);
    }
    if (whole.empty()) whole = sha256_of_file(path);
    CHECK(sha256_of_file(path) == whole);
    ReadOptions read;
    read.run = true;
    ModelFile rest;
    const Model model = load_model(path, read, &rest);
    for (const int ranks : {1, 2, 4}) check_alike(run_on(ranks, s, &model, &rest), straight);
  }
  std::remove(path.c_str());
}

TEST_CASE("a failure of one rank is that of all") {
  RunSettings s = of_batches(4, 2);
  s.before_step = [](int64_t step) {
    if (step == 2) throw input_error("of step 2");
  };
  int failed = 0;
  std::mutex mutex;
  run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
    Model own = fresh();
    RunSettings mine = s;
    mine.step.grid = RankGrid::of(ranks);
    if (ranks->rank() == 0) mine.before_step = {[](int64_t) {}};
    try {
      run_training(own, text(), nullptr, mine);
    } catch (const Error& error) {
      CHECK(std::string(error.what()) == "of step 2");
      const std::lock_guard lock(mutex);
      ++failed;
    }
  });
  CHECK(failed == 2);
}

TEST_CASE("more ranks than windows are refused") {
  RunSettings s = of_batches(1, 3);
  run_thread_ranks(3, [&](const std::shared_ptr<Communicator>& ranks) {
    Model own = fresh();
    RunSettings mine = s;
    mine.step.grid = RankGrid::of(ranks);
    CHECK_THROWS_AS(check_run(*own.transformer, text().slice(0, 70), nullptr, mine), Error);
    check_run(*own.transformer, text().slice(0, 97), nullptr, mine);
  });
}

TEST_CASE("a step is cut into batches that the ranks share") {
  CHECK(cut_for({32, 1}, 1) == StepCut{32, 1});
  CHECK(cut_for({32, 1}, 4) == StepCut{8, 4});
  CHECK(cut_for({32, 4}, 2) == StepCut{32, 4});
  CHECK(cut_for({4, 3}, 2) == StepCut{2, 6});
  CHECK_THROWS_AS(cut_for({4, 1}, 3), Error);
  CHECK_THROWS_AS(cut_for({3, 3}, 2), Error);
  CHECK(cut_of({8, 4}, {32, 1}));
  CHECK(cut_of({32, 1}, {32, 1}));
  CHECK_FALSE(cut_of({32, 1}, {8, 4}));
  CHECK_FALSE(cut_of({8, 2}, {32, 1}));
  CHECK_FALSE(cut_of({0, 0}, {32, 1}));
}

TEST_CASE("parts of a division weigh about the same") {
  const std::vector<double> sizes = {9, 1, 1, 7, 2, 5, 3};
  const std::vector<int> owners = divide(sizes, 2);
  std::vector<double> load(2);
  for (size_t i = 0; i < sizes.size(); ++i) load[static_cast<size_t>(owners[i])] += sizes[i];
  CHECK(load == std::vector<double>{14, 14});
  CHECK(divide(sizes, 1) == std::vector<int>(sizes.size(), 0));
  CHECK(divide(std::vector<double>{1.0}, 3) == std::vector<int>{0});
}
