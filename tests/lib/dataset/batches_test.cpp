#include "dataset/batches.h"

#include <doctest/doctest.h>

#include <set>

#include "base/error.h"

using hone::BatchSampler;
using hone::Corpus;
using hone::Permutation;

namespace {

// Token i is the low byte of i; with windows of a few tokens the position can be read off two neighbours' order.
Corpus counting(size_t n) {
  std::string text;
  for (size_t i = 0; i < n; ++i) text += static_cast<char>(i & 0xff);
  std::vector<hone::TextSource> sources = {hone::text_in_memory(text, "counting")};
  return hone::open_corpus(std::move(sources), hone::byte_tokenizer());
}

struct Batch {
  std::vector<int32_t> inputs, targets;
  bool operator==(const Batch&) const = default;
};

Batch draw(BatchSampler& sampler, size_t rows) {
  const size_t n = rows * static_cast<size_t>(sampler.context());
  Batch batch{std::vector<int32_t>(n), std::vector<int32_t>(n)};
  sampler.next(batch.inputs, batch.targets);
  return batch;
}

}  // namespace

TEST_CASE("a permutation visits every value once, for any size") {
  for (const uint64_t size : {1u, 2u, 3u, 4u, 5u, 15u, 16u, 17u, 255u, 1000u, 4097u}) {
    for (const uint64_t key : {0u, 1u, 12345u}) {
      const Permutation permutation(size, key);
      std::set<uint64_t> seen;
      for (uint64_t i = 0; i < size; ++i) {
        const uint64_t x = permutation(i);
        CHECK(x < size);
        seen.insert(x);
      }
      CHECK(seen.size() == size);
    }
  }
}

TEST_CASE("over many keys every value comes in every place about equally often, and neighbours do not stay together") {
  const uint64_t size = 10;
  const int keys = 5000;
  int counts[size][size] = {};
  int together = 0;
  for (int key = 0; key < keys; ++key) {
    const Permutation permutation(size, static_cast<uint64_t>(key) * 7919);
    for (uint64_t i = 0; i < size; ++i) ++counts[i][permutation(i)];
    for (uint64_t i = 0; i + 1 < size; ++i) together += permutation(i + 1) == permutation(i) + 1;
  }
  for (const auto& row : counts)
    for (const int count : row) CHECK(std::abs(count - keys / 10) < 150);  // seven standard deviations
  CHECK(together / (9.0 * keys) == doctest::Approx(0.1).epsilon(0.1));
}

TEST_CASE("one pass draws each window of the corpus once, targets one token later") {
  BatchSampler sampler(counting(251), 10, 1);
  int drawn = 0;
  for (int pass = 0; pass < 5; ++pass) {
    std::set<int32_t> starts;
    const Batch batch = draw(sampler, 1);
    const int32_t phase = batch.inputs[0] % 10;
    starts.insert(batch.inputs[0]);
    const int windows = (250 - phase) / 10;
    for (int w = 1; w < windows; ++w) {
      const Batch next = draw(sampler, 1);
      for (size_t i = 0; i < 10; ++i) {
        CHECK(next.inputs[i] == next.inputs[0] + static_cast<int32_t>(i));
        CHECK(next.targets[i] == next.inputs[i] + 1);
      }
      CHECK(next.inputs[0] % 10 == phase);
      starts.insert(next.inputs[0]);
    }
    CHECK(starts.size() == static_cast<size_t>(windows));
    drawn += windows;
  }
  CHECK(sampler.state()["tokens"] == 10 * drawn);
}

TEST_CASE("passes differ in order and in phase; seeds differ; the same seed repeats") {
  BatchSampler a(counting(251), 10, 1), b(counting(251), 10, 1), c(counting(251), 10, 2);
  std::set<int32_t> phases;
  const Batch first = draw(a, 20);
  CHECK(first == draw(b, 20));
  CHECK(!(first == draw(c, 20)));
  for (int i = 0; i < 40; ++i) phases.insert(draw(a, 25).inputs[0] % 10);
  CHECK(phases.size() > 5);
}

TEST_CASE("rows do not depend on how many are drawn at a time") {
  BatchSampler a(counting(251), 10, 3), b(counting(251), 10, 3);
  const Batch whole = draw(a, 60);  // more than two passes
  std::vector<int32_t> inputs;
  for (const size_t rows : {1u, 7u, 30u, 22u}) {
    const Batch part = draw(b, rows);
    inputs.insert(inputs.end(), part.inputs.begin(), part.inputs.end());
  }
  CHECK(whole.inputs == inputs);
}

TEST_CASE(
    "a restored sampler goes on where the saved one was, also at the end of a pass and after a change of context") {
  for (const size_t before : {0u, 1u, 13u, 24u, 25u, 26u, 77u}) {
    BatchSampler a(counting(251), 10, 4);
    a.set_context(5);
    draw(a, 3);
    a.set_context(10);
    draw(a, before);
    const auto state = nlohmann::json::parse(a.state().dump());
    BatchSampler b(counting(251), 7, 99);
    b.restore(state);
    CHECK(b.context() == 10);
    for (int i = 0; i < 10; ++i) CHECK(draw(a, 7) == draw(b, 7));
    CHECK(a.state() == b.state());
    BatchSampler c(counting(251), 7, 99);
    c.restore(a.state());  // not written out as text in between
    CHECK(draw(a, 3) == draw(c, 3));
  }
}

TEST_CASE("a sampler keeps its place when a state is refused") {
  BatchSampler a(counting(251), 10, 5);
  draw(a, 3);
  const auto good = a.state();
  for (const char* key : {"corpus_tokens", "context", "seed", "pass", "position", "tokens"}) {
    auto state = good;
    state.erase(key);
    CHECK_THROWS_AS(a.restore(state), hone::Error);
    state[key] = -1;
    CHECK_THROWS_AS(a.restore(state), hone::Error);
    state[key] = "many";
    CHECK_THROWS_AS(a.restore(state), hone::Error);
  }
  for (const auto& [key, value] :
       {std::pair("corpus_tokens", 252), {"context", 0}, {"context", 251}, {"position", 26}}) {
    auto state = good;
    state[key] = value;
    CHECK_THROWS_AS(a.restore(state), hone::Error);
  }
  CHECK_THROWS_AS(a.restore(nlohmann::json::array()), hone::Error);
  CHECK(a.state() == good);
}

TEST_CASE("the smallest corpus has one window, and a smaller one is refused") {
  BatchSampler sampler(counting(11), 10, 1);
  for (int i = 0; i < 3; ++i) {
    const Batch batch = draw(sampler, 1);
    CHECK(batch.inputs[0] == 0);
    CHECK(batch.targets[9] == 10);
  }
  CHECK_THROWS_AS(sampler.set_context(11), hone::Error);
  CHECK(sampler.context() == 10);
  CHECK_THROWS_AS(BatchSampler(counting(10), 10, 1), hone::Error);
}

TEST_CASE("all tokens are drawn about equally often in the long run") {
  BatchSampler sampler(counting(100), 16, 8);
  std::vector<int> counts(100);
  for (int i = 0; i < 3000; ++i)
    for (const int32_t id : draw(sampler, 1).inputs) ++counts[static_cast<size_t>(id)];
  for (size_t i = 16; i < 83; ++i) CHECK(std::abs(counts[i] - 3000 * 16 / 91) < 90);
}
