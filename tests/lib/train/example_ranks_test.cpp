// Ranks that train on lines of their own read their own alone, and end with the bits of one process; as threads here.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "base/error.h"
#include "comm/thread_ranks.h"
#include "lib/train/runs.h"
#include "measure/example_scores.h"

using namespace hone;
using namespace hone::test;

namespace {

// Questions of growing length; `long_one` has no room in the context.
Examples some_questions(int64_t count, int64_t long_one = -1) {
  Examples lines;
  lines.files = {"test"};
  for (int64_t i = 0; i < count; ++i) {
    Example example;
    example.parts.push_back({nullptr, std::string(static_cast<size_t>(i == long_one ? 200 : 3 + i % 5), 'a') + "?"});
    example.answer = i % 2 ? "yes" : "no";
    example.has_answer = true;
    example.line = static_cast<size_t>(i) + 1;
    lines.all.push_back(std::move(example));
  }
  return lines;
}

std::shared_ptr<SequenceReader> reader_of(const Examples& lines, bool skip_broken = false) {
  FeedSettings feed;
  feed.skip_broken = skip_broken;
  return std::make_shared<SequenceReader>(lines, byte_tokenizer(), fresh().transformer->config(), 32, feed);
}

struct LinesRun {
  std::map<std::string, Tensor> parameters;
  RunResult result;
};

// On each rank.
std::vector<LinesRun> run_on_lines(int ranks, const Examples& lines, const RunSettings& settings,
                                   bool skip_broken = false) {
  std::vector<LinesRun> all(static_cast<size_t>(ranks));
  run_thread_ranks(ranks, [&](const std::shared_ptr<Communicator>& together) {
    Model model = fresh();
    RunSettings mine = settings;
    mine.step.grid = RankGrid::of(together);
    ExampleBatches batches(reader_of(lines, skip_broken), 32, 1);
    const auto valid = reader_of(some_questions(11));
    const auto validate = [&] {
      return score_examples(*model.transformer, *valid, DType::f32, 0, {}, together).loss();
    };
    LinesRun& own = all[static_cast<size_t>(together->rank())];
    own.result = run_training(model, RunData{batches, validate}, mine, nullptr);
    own.parameters = after(model);
  });
  return all;
}

RunSettings four_batches_of_lines(int64_t steps) {
  RunSettings s = settings(steps);
  s.step.batch = 2;
  s.step.accumulate = 4;
  return s;
}

}  // namespace

TEST_CASE("ranks share lines, and score those of the validation, to the bit") {
  bool skip = false;
  int64_t broken = -1;
  SUBCASE("all can be read") {}
  SUBCASE("what cannot is left out") {
    skip = true;
    broken = 5;
  }
  const Examples lines = some_questions(21, broken);
  const LinesRun one = run_on_lines(1, lines, four_batches_of_lines(6), skip).front();
  for (const int ranks : {2, 4})
    for (const LinesRun& other : run_on_lines(ranks, lines, four_batches_of_lines(6), skip)) {
      CHECK(equal(other.parameters, one.parameters));
      CHECK(other.result.loss == one.result.loss);
      CHECK(other.result.valid_loss == one.result.valid_loss);
      CHECK(other.result.tokens == one.result.tokens);
    }
}

TEST_CASE("a rank does not read what others do") {
  const Examples lines = some_questions(8, 3);
  TrainingBatch batch;
  int failed = 0, ended = 0;
  for (const int rank : {0, 1}) {
    ExampleBatches batches(reader_of(lines), 32, 1);
    batches.share(2, rank, 2);
    // One pass over the lines, in which one of the ranks meets the line that is too long.
    try {
      for (int turn = 0; turn < 2; ++turn) {
        batches.skip(2 * rank);
        batches.next(2, batch);
        batches.skip(2 * (1 - rank));
      }
      ++ended;
      CHECK(batches.state().at("position").get<int64_t>() == 8);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
      ++failed;
    }
  }
  CHECK(failed == 1);
  CHECK(ended == 1);
}

TEST_CASE("nothing is read before somebody asks, when the place and the turns are known") {
  const auto reader = reader_of(some_questions(8, 3), true);
  ExampleBatches batches(reader, 32, 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  CHECK(reader->broken() == 0);
  const nlohmann::json begin = batches.state();
  CHECK(begin.at("position") == 0);
  TrainingBatch batch;
  batches.next(7, batch);
  batches.next(1, batch);  // goes past the eighth, or has met it before
  CHECK(reader->broken() == 1);
  CHECK(batches.state().at("position").get<int64_t>() >= 9);
  batches.restore(begin);
  CHECK(batches.state() == begin);
}

TEST_CASE("a line that one rank alone cannot read ends all, and the checkpoint has the steps before it") {
  const std::string path = "example_ranks_test.h5";
  RunSettings s = four_batches_of_lines(40);
  s.checkpoint = path;
  // Four passes and more, in which every line comes.
  const Examples lines = some_questions(64, 40);
  run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& together) {
    Model model = fresh();
    RunSettings mine = s;
    mine.step.grid = RankGrid::of(together);
    ExampleBatches batches(reader_of(lines), 32, 1);
    bool refused = false;
    try {
      run_training(model, RunData{batches, {}}, mine, nullptr);
    } catch (const Error& error) {
      refused = error.kind() == ErrorKind::input && std::string(error.what()).find("line 41") != std::string::npos;
    }
    CHECK(refused);
  });
  std::remove(path.c_str());
}
