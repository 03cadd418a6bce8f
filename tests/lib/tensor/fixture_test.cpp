// The reference values are what they say: names, shapes, and the loss that follows from the logits.
#include "fixtures/fixture.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

using namespace hone;

TEST_CASE("a model's fixture has a gradient for each parameter, and its loss is that of its logits") {
  for (const char* name : {"llama", "gpt2"}) {
    const Fixture fixture(name);
    const auto parameters = fixture.names("parameters/");
    CHECK(parameters.size() > 10);
    CHECK(parameters == fixture.names("gradients/"));
    for (const std::string& p : parameters)
      CHECK(fixture.tensor("parameters/" + p).shape() == fixture.tensor("gradients/" + p).shape());

    const int64_t vocabulary = fixture.config().at("vocab").get<int64_t>();
    const Tensor logits = fixture.tensor("logits"), targets = fixture.tensor("inputs/targets");
    REQUIRE(logits.shape() == Shape{targets.dim(0), targets.dim(1), vocabulary});
    double loss = 0;
    for (int64_t t = 0; t < targets.size(); ++t) {
      double sum = 0;
      for (int64_t i = 0; i < vocabulary; ++i)
        sum += std::exp(static_cast<double>(logits.data<float>()[t * vocabulary + i]));
      const int32_t target = targets.data<int32_t>()[t];
      REQUIRE(target >= 0);
      REQUIRE(target < vocabulary);
      loss += std::log(sum) - static_cast<double>(logits.data<float>()[t * vocabulary + target]);
    }
    CHECK(loss / static_cast<double>(targets.size()) == doctest::Approx(fixture.scalar("loss")).epsilon(1e-6));
  }
}

TEST_CASE("the two models differ where they should") {
  const Fixture llama("llama"), gpt2("gpt2");
  CHECK(llama.tensor("parameters/blocks.1.attention.qkv.weight").shape() == Shape{(4 + 2 * 2) * 16, 64});
  CHECK(llama.tensor("parameters/blocks.1.feed_forward.gate_up.weight").shape() == Shape{2 * 96, 64});
  CHECK(llama.has("parameters/head.weight"));
  CHECK_FALSE(llama.has("parameters/position.weight"));
  CHECK(gpt2.tensor("parameters/blocks.1.attention.qkv.bias").shape() == Shape{3 * 48});
  CHECK(gpt2.tensor("parameters/position.weight").shape() == Shape{32, 48});
  CHECK_FALSE(gpt2.has("parameters/head.weight"));
}

TEST_CASE("a missing file or array is an error that names it") {
  CHECK_THROWS_WITH_AS(Fixture("nothing"), doctest::Contains("nothing.json"), Error);
  CHECK_THROWS_WITH_AS(Fixture("ops").tensor("rms_norm/z"), doctest::Contains("rms_norm/z"), Error);
}
