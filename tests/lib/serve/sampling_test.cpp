#include "serve/sampling.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "base/error.h"

using namespace hone;

namespace {

const std::vector<float> logits = {1.0f, 3.0f, 2.0f, 3.0f, -1.0f};

std::map<int32_t, int> draw_many(const SamplingSettings& settings, int count, int32_t banned = -1) {
  Sampler sampler(settings, Random(5, "sampling"));
  std::map<int32_t, int> drawn;
  for (int i = 0; i < count; ++i) ++drawn[sampler.next(logits, {}, banned)];
  return drawn;
}

}  // namespace

TEST_CASE("temperature 0 takes the most probable token, the first of equal ones") {
  const auto drawn = draw_many({.temperature = 0}, 20);
  CHECK(drawn.size() == 1);
  CHECK(drawn.at(1) == 20);
  CHECK(draw_many({.temperature = 0}, 1, 1).begin()->first == 3);
}

TEST_CASE("tokens come as often as their probabilities say") {
  for (const double temperature : {0.5, 1.0, 2.0}) {
    const int n = 40000;
    const auto drawn = draw_many({.temperature = temperature}, n);
    double total = 0;
    for (const float l : logits) total += std::exp(static_cast<double>(l) / temperature);
    for (int32_t id = 0; id < 5; ++id) {
      const double p = std::exp(static_cast<double>(logits[static_cast<size_t>(id)]) / temperature) / total;
      const auto found = drawn.find(id);
      const double frequency = found == drawn.end() ? 0 : static_cast<double>(found->second) / n;
      CHECK(std::abs(frequency - p) < 4 * std::sqrt(p * (1 - p) / n));
    }
  }
}

TEST_CASE("top-k keeps the k most probable tokens, the lower id of equal ones") {
  const auto two = draw_many({.top_k = 2}, 2000);
  CHECK(two.size() == 2);
  CHECK(two.contains(1));
  CHECK(two.contains(3));
  CHECK(draw_many({.top_k = 1}, 100).begin()->first == 1);
  CHECK(draw_many({.top_k = 100}, 5000).size() == 5);
}

TEST_CASE("top-p keeps the fewest tokens that have the mass") {
  // Probabilities: 1 and 3 have 0.39 each, 2 has 0.14, 0 has 0.05, 4 has 0.007.
  CHECK(draw_many({.top_p = 0.3}, 500).size() == 1);
  CHECK(draw_many({.top_p = 0.7}, 2000).size() == 2);
  CHECK(draw_many({.top_p = 0.85}, 2000).size() == 3);
  CHECK(draw_many({.top_p = 1e-9}, 100).begin()->first == 1);
  // After top-k 3 the mass is of those three: 2 has 0.155 of it.
  CHECK(draw_many({.top_k = 3, .top_p = 0.84}, 2000).size() == 2);
}

TEST_CASE("the repetition penalty lowers logits of either sign") {
  Sampler sampler({.temperature = 0, .repetition_penalty = 2}, Random(1, "sampling"));
  const std::vector<int32_t> seen = {1, 3, 3, 3};
  CHECK(sampler.next(logits, seen) == 2);  // 3 became 1.5, once
  const std::vector<float> negative = {-1.0f, -1.5f};
  const std::vector<int32_t> first = {0};
  CHECK(sampler.next(negative, first) == 1);
}

TEST_CASE("the same stream gives the same tokens") {
  Sampler a({}, Random(9, "sampling")), b({}, Random(9, "sampling")), c({}, Random(10, "sampling"));
  int other = 0;
  for (int i = 0; i < 200; ++i) {
    const int32_t token = a.next(logits, {});
    CHECK(token == b.next(logits, {}));
    other += token != c.next(logits, {});
  }
  CHECK(other > 0);
  CHECK(a.random().state() == b.random().state());
}

TEST_CASE("logits that are no numbers are an error, -infinity excludes") {
  Sampler sampler({}, Random(1, "sampling"));
  const float inf = std::numeric_limits<float>::infinity();
  CHECK_THROWS_AS(sampler.next(std::vector<float>{0.0f, std::nanf("")}, {}), Error);
  CHECK_THROWS_AS(sampler.next(std::vector<float>{0.0f, inf}, {}), Error);
  CHECK_THROWS_AS(sampler.next(std::vector<float>{-inf, -inf}, {}), Error);
  CHECK_THROWS_AS(sampler.next(std::vector<float>{0.0f}, {}, 0), Error);
  for (int i = 0; i < 50; ++i) CHECK(sampler.next(std::vector<float>{-inf, 0.0f, -inf}, {}) == 1);
}

TEST_CASE("impossible settings are refused") {
  CHECK_THROWS_AS(check(SamplingSettings{.temperature = -1}), Error);
  CHECK_THROWS_AS(check(SamplingSettings{.temperature = std::nan("")}), Error);
  CHECK_THROWS_AS(check(SamplingSettings{.top_k = -1}), Error);
  CHECK_THROWS_AS(check(SamplingSettings{.top_p = 0}), Error);
  CHECK_THROWS_AS(check(SamplingSettings{.top_p = 1.5}), Error);
  CHECK_THROWS_AS(check(SamplingSettings{.repetition_penalty = 0}), Error);
  CHECK_NOTHROW(check(SamplingSettings{}));
}

TEST_CASE("of a large vocabulary tokens come as often as their weights say, and none that is banned or excluded") {
  constexpr int32_t count = 5003, draws = 20000;  // whole blocks of sums, and a rest
  std::vector<float> logits(count, -20);
  const std::map<int32_t, double> probable = {{3, 0.5}, {255, 0.2}, {256, 0.1}, {2600, 0.1}, {5002, 0.1}};
  for (const auto& [id, p] : probable) logits[static_cast<size_t>(id)] = static_cast<float>(std::log(p));
  logits[100] = -std::numeric_limits<float>::infinity();
  logits[4000] = 50;  // which is banned
  SamplingSettings s;
  Sampler sampler(s, Random(1, "sampling"));
  std::map<int32_t, int> found;
  for (int i = 0; i < draws; ++i) ++found[sampler.next(logits, {}, 4000)];
  CHECK_FALSE(found.contains(4000));
  CHECK_FALSE(found.contains(100));
  for (const auto& [id, p] : probable) CHECK(std::abs(found[id] / (draws * p) - 1) < 0.1);
  for (const double temperature : {0.0, 1e-300}) {
    s.temperature = temperature;
    CHECK(Sampler(s, Random(1, "sampling")).next(logits, {}, 4000) == 3);
  }
}

TEST_CASE("what has no probability has no weight, at any temperature") {
  std::vector<float> row(300, 2);
  row[7] = -std::numeric_limits<float>::infinity();
  for (const double temperature : {1e-300, 1.0, 1e300}) {
    CAPTURE(temperature);
    Sampler sampler({.temperature = temperature}, Random(1, "sampling"));
    const Distribution& all = sampler.distribution(row, {}, 9);
    REQUIRE(all.weights.size() == 300);
    CHECK(all.weights[7] == 0);
    CHECK(all.weights[9] == 0);
    CHECK(all.weights[299] == 1);
    CHECK(all.total == 298);
  }
}
