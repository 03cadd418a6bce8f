#include "compress/scores.h"

#include <doctest/doctest.h>

#include <vector>

#include "base/error.h"

using namespace hone;

TEST_CASE("magnitude scores are absolute values, compared over the layer") {
  const ScoreMethod& method = score_method("magnitude");
  CHECK_FALSE(method.needs_calibration);
  CHECK(method.comparison == ComparisonGroup::layer);
  const Tensor scores = pruning_scores(method, Tensor::of({2, 2}, {-1.5f, 0, 2, -0.25f}), {}, "w");
  const float expected[] = {1.5f, 0, 2, 0.25f};
  for (int i = 0; i < 4; ++i) CHECK(scores.data<float>()[i] == expected[i]);
}

TEST_CASE("wanda scores multiply with the norm of the input column, compared within a row") {
  const ScoreMethod& method = score_method("wanda");
  CHECK(method.needs_calibration);
  CHECK(method.comparison == ComparisonGroup::row);
  const std::vector<float> norms{2, 0, 10};
  const Tensor scores = pruning_scores(method, Tensor::of({2, 3}, {-1, 5, 3, 4, -6, 0.5f}), norms, "w");
  const float expected[] = {2, 0, 30, 8, 0, 5};
  for (int i = 0; i < 6; ++i) CHECK(scores.data<float>()[i] == expected[i]);
}

TEST_CASE("an unknown method lists the known ones; missing or misshapen norms are refused") {
  const auto failure = [](auto&& call) {
    try {
      call();
    } catch (const Error& error) {
      return std::to_string(error.exit_status()) + " " + error.what();
    }
    return std::string("none");
  };
  const std::string unknown = failure([] { score_method("random"); });
  CHECK(unknown.starts_with("2 "));
  CHECK(unknown.find("magnitude, wanda") != std::string::npos);

  const Tensor weight = Tensor::of({1, 2}, {1, 2});
  const std::string missing = failure([&] { pruning_scores(score_method("wanda"), weight, {}, "blocks.3.down"); });
  CHECK(missing.starts_with("2 "));
  CHECK(missing.find("blocks.3.down") != std::string::npos);
  CHECK(missing.find("--calibration") != std::string::npos);
  const std::vector<float> three{1, 2, 3};
  CHECK(failure([&] { pruning_scores(score_method("wanda"), weight, three, "w"); }).starts_with("1 "));
}
