#include "measure/exits.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "measure/evaluate.h"
#include "model/exits.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;
using doctest::Approx;

namespace {

// Windows of 10 tokens with two depths; the first exit is sure of `sure` and wrong with probability 1 - u, where u is
// what it measures.
ExitScan scan_of(int64_t windows, uint64_t seed) {
  ExitScan scan;
  scan.depths = {2, 4};
  Random random(seed, "exits");
  for (int64_t w = 0; w < windows; ++w) {
    scan.windows.push_back(scan.tokens());
    for (int t = 0; t < 10; ++t) {
      const double u = random.uniform();
      const bool agrees = random.uniform() < std::sqrt(u);
      scan.losses.insert(scan.losses.end(), {1.0f, 0.5f});
      scan.measured.insert(scan.measured.end(), {static_cast<float>(u), 1.0f});
      scan.correct.insert(scan.correct.end(), {static_cast<uint8_t>(agrees), 1});
      scan.agrees.insert(scan.agrees.end(), {static_cast<uint8_t>(agrees), 1});
    }
  }
  scan.windows.push_back(scan.tokens());
  return scan;
}

}  // namespace

TEST_CASE("scores of exits are means over the tokens that end there") {
  const ExitScan scan = scan_of(50, 1);
  const ExitScores all = scores_at(scan, 1), first = scores_at(scan, 0);
  CHECK(all.agreement == Approx(1));
  CHECK(all.mean_depth == Approx(4));
  CHECK(first.mean_depth == Approx(2));
  const ExitScores some = scores_of(scan, parse_exit_rule("gap:0.6"));
  CHECK(some.shares[0] + some.shares[1] == Approx(1));
  CHECK(some.mean_depth == Approx(2 * some.shares[0] + 4 * some.shares[1]));
  CHECK(some.loss == Approx(some.shares[0] + 0.5 * some.shares[1]));
  CHECK(some.agreement > first.agreement);
  CHECK(some.disagreements.size() == 50);
}

TEST_CASE("a scan of a model agrees with its scores, window by window") {
  Config config = small_config();
  config.layers.push_back(config.layers.back());
  set_exits(config, std::vector<int64_t>{1, 2});
  Transformer model(config);
  initialize(model, 2, 0.1);
  std::vector<int32_t> ids = some_ids(300);
  const Corpus corpus = corpus_of(ids, byte_tokenizer(), "test");
  ExitScanSettings s;
  s.context = 32, s.stride = 16, s.criterion = &exit_criterion("gap");
  const ExitScan scan = scan_exits(model, corpus, s);
  CHECK(scan.tokens() == 299);
  CHECK(scan.depths == std::vector<int64_t>{1, 2, 3});
  EvaluateSettings e;
  e.context = 32, e.stride = 16;
  const Scores whole = evaluate(model, corpus, e);
  CHECK(scores_at(scan, 2).loss == Approx(whole.loss()).epsilon(1e-5));
  CHECK(scores_at(scan, 2).accuracy == Approx(whole.accuracy()).epsilon(1e-9));
  CHECK(scores_at(scan, 0).loss != Approx(whole.loss()));
  Transformer plain(small_config());
  CHECK_THROWS_AS(scan_exits(plain, corpus, s), Error);
}

TEST_CASE("a scan measures hidden states by those of the exit before") {
  Config config = small_config();
  config.layers.assign(3, config.layers.back());
  set_exits(config, std::vector<int64_t>{1, 2});
  Transformer model(config);
  initialize(model, 2, 0.1);
  const std::vector<int32_t> ids = some_ids(40);
  const Corpus corpus = corpus_of(ids, byte_tokenizer(), "test");
  ExitScanSettings s;
  s.context = 16, s.stride = 16, s.criterion = &exit_criterion("saturation");
  const ExitScan scan = scan_exits(model, corpus, s);
  const NoTape pause;
  Call call = model.call(Batch::whole(1, 16), DType::f32);
  call.exits = {1, 2};
  const Transformer::Output out = model.forward(std::span(ids).first(16), call);
  const Tensor hidden[] = {out.exits[0].hidden.value(), out.exits[1].hidden.value(), out.hidden.value()};
  for (int64_t t = 0; t < 16; ++t) {
    const auto row = static_cast<size_t>(t) * 3;
    CHECK(scan.measured[row] == -1);
    for (size_t d = 1; d < 3; ++d) {
      double both = 0, here = 0, before = 0;
      for (int64_t i = 0; i < hidden[d].dim(1); ++i) {
        const auto x = static_cast<double>(hidden[d].rows(t, 1).span<float>()[static_cast<size_t>(i)]);
        const auto y = static_cast<double>(hidden[d - 1].rows(t, 1).span<float>()[static_cast<size_t>(i)]);
        both += x * y, here += x * x, before += y * y;
      }
      CHECK(static_cast<double>(scan.measured[row + d]) == Approx(both / std::sqrt(here * before)).epsilon(1e-4));
      CHECK(scan.measured[row + d] < 1);
    }
  }
  // No threshold lets a token end at the first exit.
  CHECK(scores_of(scan, parse_exit_rule("saturation:0")).shares[0] == 0);
}

TEST_CASE("p-values are those of the two bounds") {
  // (1 - 0.02)^150, and e times the probability of no hit among 400.
  CHECK(hoeffding_bentkus(0, 150, 0.02) == Approx(std::pow(0.98, 150)));
  CHECK(hoeffding_bentkus(0.01, 1000, 0.02) == Approx(std::exp(1) * 0.0102).epsilon(0.03));
  CHECK(hoeffding_bentkus(0.03, 1000, 0.02) == Approx(1));
  CHECK(windows_needed(0.98, 0.95) == 149);
  CHECK(windows_needed(0.9, 0.95) == 29);
}

TEST_CASE("calibration keeps its promise as often as it says, and asks for enough text") {
  const ExitCriterion& gap = exit_criterion("gap");
  constexpr int64_t trials = 100;
  int64_t broken = 0;
  double leaving = 0;
  const ExitScan truth = scan_of(20000, 999);
  for (int64_t i = 0; i < trials; ++i) {
    const CalibratedExits found = calibrate_exits(scan_of(600, static_cast<uint64_t>(i)), gap, 0.9, 10);
    broken += scores_of(truth, found.calibration.rule).agreement < 0.9;
    leaving += found.scores.shares[0] / trials;
    CHECK(found.p_value <= 0.05);
  }
  CHECK(broken <= 5);
  CHECK(leaving > 0.3);  // it is worth something
  try {
    calibrate_exits(scan_of(100, 1), gap, 0.98, 10);
    FAIL("too little text");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    CHECK(std::string(error.what()).find("1491 tokens") != std::string::npos);
  }
  CHECK_THROWS_AS(calibrate_exits(scan_of(100, 1), gap, 1.0, 10), Error);
}

TEST_CASE("where no threshold keeps a promise it is said how much text would do, if any") {
  // Windows of 10 tokens that all leave at once; in some of them one is predicted otherwise.
  const auto scan = [](int64_t windows, int64_t wrong) {
    ExitScan s;
    s.depths = {2, 4};
    for (int64_t w = 0; w < windows; ++w) {
      s.windows.push_back(s.tokens());
      for (int t = 0; t < 10; ++t) {
        s.losses.insert(s.losses.end(), {1.0f, 0.5f});
        s.measured.insert(s.measured.end(), {1.0f, 1.0f});
        s.correct.insert(s.correct.end(), {1, 1});
        s.agrees.insert(s.agrees.end(), {static_cast<uint8_t>(w >= wrong || t > 0), 1});
      }
    }
    s.windows.push_back(s.tokens());
    return s;
  };
  const auto refusal = [&](int64_t wrong) -> std::string {
    try {
      calibrate_exits(scan(100, wrong), exit_criterion("gap"), 0.95, 10);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  CHECK(refusal(0).empty());
  const std::string short_text = refusal(40), hopeless = refusal(60);  // 4 and 6% of the tokens
  const std::optional<int64_t> needed = windows_needed(0.04, 0.95, 0.95);
  REQUIRE(needed);
  CHECK(*needed > 1000);
  CHECK(hoeffding_bentkus(0.04, *needed, 0.05) <= 0.05);
  CHECK(hoeffding_bentkus(0.04, *needed * 7 / 8, 0.05) > 0.05);
  CHECK(short_text.find(fmt::format("about {} windows would do: {} tokens", *needed, *needed * 10 + 1)) !=
        std::string::npos);
  CHECK(hopeless.find("0.0600 of all differ; promise less") != std::string::npos);
  CHECK(hopeless.find("would do") == std::string::npos);
  CHECK_FALSE(windows_needed(0.05, 0.95, 0.95));
  CHECK_FALSE(windows_needed(0.2, 0.95, 0.95));
  CHECK(windows_needed(0.0, 0.98, 0.95) == windows_needed(0.98, 0.95));
}
