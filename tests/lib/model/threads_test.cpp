// One model in several threads of the caller's: tests/run.sh runs these under the thread sanitizer, too.
#include <doctest/doctest.h>

#include <thread>

#include "kernels/parallel.h"
#include "model/session.h"
#include "support/check.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;

namespace {

// A prompt and some steps, in pieces as generation feeds them.
std::vector<float> generated(const Transformer& model, const std::vector<int32_t>& ids, DType type) {
  std::vector<float> all;
  Session session(model, {1, static_cast<int64_t>(ids.size()), type});
  const auto feed = [&](size_t begin, size_t count) {
    const Tensor logits = session.feed(std::span(ids).subspan(begin, count), 16);
    all.insert(all.end(), logits.span<float>().begin(), logits.span<float>().end());
  };
  feed(0, ids.size() - 12);
  for (size_t t = ids.size() - 12; t < ids.size(); ++t) feed(t, 1);
  return all;
}

Config mixed_config() {
  Config c = small_config();
  c.context = 24;  // shorter than the sequences, so that the table of rotary positions grows while they run
  c.layers = {{4, 2, 96, "window:20:2"}, {2, 2, 64, "full"}};
  c.layers[1].experts = 4;
  c.layers[1].top_k = 2;
  return c;
}

}  // namespace

TEST_CASE("threads: one model gives several at once what it gives one") {
  const std::vector<int32_t> ids = some_ids(90);
  for (const DType type : {DType::f32, DType::bf16})
    for (int round = 0; round < 5; ++round) {
      // A new model each round: what is made at first use must be made again.
      Transformer fresh(mixed_config()), other(mixed_config());
      initialize(fresh, 3, 0.2);
      initialize(other, 3, 0.2);
      const std::vector<float> expected = generated(other, ids, type);
      std::vector<std::vector<float>> found(3);
      std::vector<std::thread> threads;
      for (auto& mine : found) threads.emplace_back([&] { mine = generated(fresh, ids, type); });
      for (std::thread& thread : threads) thread.join();
      for (const auto& mine : found) CHECK(mine == expected);
    }
}

TEST_CASE("threads: their number is the process's, whichever thread asks") {
  const int before = kernels::threads();
  kernels::set_threads(before + 1);
  int seen = 0;
  std::thread([&] { seen = kernels::threads(); }).join();
  CHECK(seen == before + 1);
  std::thread([&] { kernels::set_threads(before); }).join();
  CHECK(kernels::threads() == before);
}
