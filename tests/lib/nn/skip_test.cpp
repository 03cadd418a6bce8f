// Rules of which layers sequences pass by.
#include "nn/skip.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

using namespace hone;

TEST_CASE("every rule of skipping gives parts of the highest probability, and comes back from its name") {
  REQUIRE(skip_rules().size() >= 2);
  for (const SkipRule& rule : skip_rules()) {
    CAPTURE(rule.name);
    for (const int64_t layers : {1, 2, 7})
      for (const int64_t steps : {1, 2, 10})
        for (int64_t step = 0; step < steps; ++step)
          for (int64_t layer = 0; layer < layers; ++layer) {
            const double part = rule.part({layer, layers, step, steps});
            CHECK(part >= 0);
            CHECK(part <= 1);
          }
    CHECK(rule.part({6, 7, 9, 10}) == doctest::Approx(1));  // the last layer, at the last step
    const LayerDropout named = layer_dropout("0.25:" + std::string(rule.name));
    CHECK(named.most == 0.25);
    CHECK(layer_dropout(to_string(named)) == named);
    CHECK((named.rule == nullptr) == (&rule == &skip_rules().front()));
    CHECK(skip_probabilities(named, 7, 9, 10).back() == doctest::Approx(0.25));
    CHECK(skip_probabilities({0, named.rule}, 7, 9, 10).empty());
  }
}

TEST_CASE("probabilities of layers are those of the papers") {
  // LayerSkip's, in the form that it had when it was the only one.
  const std::vector<float> exponential = skip_probabilities({0.4}, 5, 3, 10);
  REQUIRE(exponential.size() == 5);
  for (size_t layer = 0; layer < 5; ++layer)
    CHECK(exponential[layer] == static_cast<float>(0.4 * (std::exp2(static_cast<double>(layer) / 4.0) - 1)));
  CHECK(exponential.front() == 0.0f);
  CHECK(std::ranges::is_sorted(exponential));
  const std::vector<float> linear = skip_probabilities(layer_dropout("0.4:linear"), 4, 0, 10);
  for (size_t layer = 0; layer < 4; ++layer)
    CHECK(static_cast<double>(linear[layer]) == doctest::Approx(0.1 * static_cast<double>(layer + 1)));
  for (const float p : skip_probabilities(layer_dropout("0.4:uniform"), 4, 0, 10)) CHECK(p == 0.4f);
  const LayerDropout growing = layer_dropout("0.4:growing");
  for (const float p : skip_probabilities(growing, 4, 0, 10)) CHECK(p == 0.0f);
  CHECK(skip_probabilities(growing, 4, 9, 10) == skip_probabilities({0.4}, 4, 9, 10));
  CHECK(skip_probabilities(growing, 4, 4, 10).back() < skip_probabilities(growing, 4, 5, 10).back());
}

TEST_CASE("what is no probability or rule of skipping is refused") {
  for (const char* wrong : {"1", "-0.1", "2", "", "x", "0.2:", "0.2:cubic", "0.2:linear:2", ":linear", "nan"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(layer_dropout(wrong), Error);
  }
  for (const double wrong : {1.0, -0.1, 2.0}) CHECK_THROWS_AS(skip_probabilities({wrong}, 4, 0, 1), Error);
  CHECK(layer_dropout("0") == LayerDropout{});
  CHECK(layer_dropout("25%:linear") == layer_dropout("0.25:linear"));
  CHECK(to_string(layer_dropout("0.2")) == "0.2");
  CHECK(to_string(layer_dropout("0.2:exponential")) == "0.2");
}
