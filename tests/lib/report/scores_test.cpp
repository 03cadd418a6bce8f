#include "report/scores.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numbers>
#include <string>

#include "base/error.h"
#include "base/random.h"

using namespace hone;
using doctest::Approx;

TEST_CASE("scores are sums over tokens, not means over windows") {
  Scores scores;
  scores.add({.loss = 10, .correct = 3, .tokens = 4, .bytes = 8});
  scores.add({.loss = 2, .correct = 1, .tokens = 2, .bytes = 2});
  CHECK(scores.tokens() == 6);
  CHECK(scores.loss() == Approx(2));
  CHECK(scores.perplexity() == Approx(std::exp(2.0)));
  CHECK(scores.bits_per_byte() == Approx(12 / std::numbers::ln2 / 10));
  CHECK(scores.accuracy() == Approx(4.0 / 6));
  CHECK(scores.accuracy_stderr() == Approx(std::sqrt(4.0 / 6 * 2 / 6 / 6)));
  MetricValues values;
  scores.add_to(values);
  for (const char* name : {"tokens", "bytes", "loss", "perplexity", "bits_per_byte", "accuracy", "accuracy_stderr"}) {
    CAPTURE(name);
    CHECK(values.count(name) == 1);
    CHECK(find_metric(name) != nullptr);
  }
  CHECK(std::isnan(Scores().loss()));
}

TEST_CASE("answers count once each, whatever their tokens") {
  Scores scores;
  scores.add({.loss = 1, .correct = 1, .tokens = 4, .bytes = 4, .trials = 1});
  scores.add({.loss = 1, .correct = 0, .tokens = 2, .bytes = 2, .trials = 1});
  CHECK(scores.accuracy() == Approx(0.5));
  CHECK(scores.accuracy_stderr() == Approx(0.5 / std::sqrt(2.0)));
  CHECK(scores.loss() == Approx(2.0 / 6));
}

TEST_CASE("accuracy_stderr is that of windows where there are many: dependent tokens widen it") {
  Scores dependent, independent;
  Random random(2, "stderr");
  for (int i = 0; i < 400; ++i) {
    dependent.add({.loss = 1, .correct = random.uniform() < 0.5 ? 100 : 0, .tokens = 100, .bytes = 100});
    int correct = 0;
    for (int t = 0; t < 100; ++t) correct += random.uniform() < 0.5;
    independent.add({.loss = 1, .correct = correct, .tokens = 100, .bytes = 100});
  }
  CHECK(dependent.accuracy_stderr() == Approx(0.5 / std::sqrt(400.0)).epsilon(0.02));
  CHECK(independent.accuracy_stderr() == Approx(0.5 / std::sqrt(40000.0)).epsilon(0.12));
}

TEST_CASE("a comparison holds the differences and ratios of the totals, with the truth inside the interval") {
  Random random(9, "compare");
  Scores model, baseline;
  std::vector<WindowDivergence> divergences;
  for (int i = 0; i < 50; ++i) {
    const int64_t tokens = 100 + static_cast<int64_t>(random.below(100));
    const double hard = static_cast<double>(tokens) * (1.5 + 0.3 * random.normal());
    baseline.add({.loss = hard, .correct = tokens / 2, .tokens = tokens, .bytes = 4 * tokens});
    model.add(
        {.loss = hard * 1.01 + random.normal(), .correct = tokens / 2 - 1, .tokens = tokens, .bytes = 4 * tokens});
    divergences.push_back({.kl = 0.02 * static_cast<double>(tokens), .agree = tokens - 3, .tokens = tokens});
  }
  const Comparison result = compare(model, baseline, divergences);
  REQUIRE(result.metrics.size() == 4);
  const auto check = [&](size_t i, const char* name, double a, double b) {
    const MetricComparison& metric = result.metrics[i];
    CHECK(metric.metric == name);
    CHECK(metric.difference.estimate == Approx(a - b));
    CHECK(metric.ratio.estimate == Approx(a / b));
    CHECK(metric.difference.low < metric.difference.estimate);
    CHECK(metric.difference.estimate < metric.difference.high);
    CHECK(metric.ratio.low < metric.ratio.estimate);
    CHECK(metric.ratio.estimate < metric.ratio.high);
  };
  check(0, "loss", model.loss(), baseline.loss());
  check(1, "perplexity", model.perplexity(), baseline.perplexity());
  check(2, "bits_per_byte", model.bits_per_byte(), baseline.bits_per_byte());
  check(3, "accuracy", model.accuracy(), baseline.accuracy());
  CHECK(result.metrics[0].ratio.low < 1.01);
  CHECK(result.metrics[0].ratio.high > 1.01);
  CHECK(result.metrics[0].ratio.high - result.metrics[0].ratio.low < 0.01);
  CHECK(result.kl.estimate == Approx(0.02));
  CHECK(result.kl.high == Approx(0.02));
  CHECK(result.top1_agreement.estimate < 1);
}

TEST_CASE("a model equals itself, and without divergences kl is not a number") {
  Scores scores;
  scores.add({.loss = 3, .correct = 1, .tokens = 2, .bytes = 3});
  scores.add({.loss = 4, .correct = 1, .tokens = 2, .bytes = 3});
  const Comparison result = compare(scores, scores);
  for (const MetricComparison& metric : result.metrics) {
    CHECK(metric.difference.estimate == 0);
    CHECK(metric.difference.high == 0);
    CHECK(metric.ratio.estimate == 1);
    CHECK(metric.ratio.low == 1);
  }
  CHECK(std::isnan(result.kl.estimate));
}

TEST_CASE("different windows cannot be compared") {
  Scores a, b, c;
  a.add({.loss = 3, .correct = 1, .tokens = 2, .bytes = 3});
  b.add({.loss = 3, .correct = 1, .tokens = 3, .bytes = 3});
  for (const Scores& other : {b, c}) {
    try {
      compare(a, other);
      FAIL("nothing was thrown");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
    }
  }
}
