#include "report/choices.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "base/error.h"

using namespace hone;

namespace {

// Answers with these losses, of so many bytes each.
Scores answers_of(const std::vector<std::pair<double, int64_t>>& answers) {
  Scores scores;
  for (const auto& [loss, bytes] : answers)
    scores.add({.loss = loss, .correct = 0, .tokens = bytes, .bytes = bytes, .trials = 1});
  return scores;
}

}  // namespace

TEST_CASE("the right answer must be the most probable, as a sum and by the byte") {
  // Sums 4 < 5, by the byte 2 > 1; then the other way around; then both.
  const Scores answers = answers_of({{4, 2}, {5, 5}, {6, 6}, {5, 2}, {3, 3}, {9, 1}, {9, 2}});
  const Choice choices[] = {{2, 0}, {2, 0}, {3, 0}};
  const Scores scores = scores_of_choices(answers, choices);
  REQUIRE(scores.windows().size() == 3);
  CHECK(scores.of_choices());
  CHECK(scores.windows()[0].correct == 1);
  CHECK(scores.windows()[0].correct_by_bytes == 0);
  CHECK(scores.windows()[1].correct == 0);
  CHECK(scores.windows()[1].correct_by_bytes == 1);
  CHECK(scores.windows()[2].correct == 1);
  CHECK(scores.windows()[2].correct_by_bytes == 1);
  CHECK(scores.accuracy() == doctest::Approx(2.0 / 3));
  CHECK(scores.accuracy_by_bytes() == doctest::Approx(2.0 / 3));
  CHECK(scores.accuracy_by_bytes_stderr() == doctest::Approx(std::sqrt(2.0 / 9 / 3)));
  CHECK(scores.tokens() == 2 + 6 + 3);  // of the right answers
  CHECK(scores.loss() == doctest::Approx((4.0 + 6 + 3) / 11));
  MetricValues values;
  scores.add_to(values);
  CHECK(values.at("accuracy_by_bytes") == scores.accuracy_by_bytes());
  CHECK(values.contains("accuracy_by_bytes_stderr"));
  values.clear();
  answers.add_to(values);
  CHECK(!values.contains("accuracy_by_bytes"));
}

TEST_CASE("a tie is wrong, and so is what is not a number") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Choice choice[] = {{2, 1}};
  for (const auto& losses : {std::pair{3.0, 3.0}, std::pair{nan, 3.0}, std::pair{3.0, nan}, std::pair{nan, nan}}) {
    const Scores scores = scores_of_choices(answers_of({{losses.first, 2}, {losses.second, 2}}), choice);
    CHECK(scores.windows()[0].correct == 0);
    CHECK(scores.windows()[0].correct_by_bytes == 0);
  }
  CHECK(scores_of_choices(answers_of({{3, 2}, {2.9, 2}}), choice).windows()[0].correct == 1);
}

TEST_CASE("choices of two models are compared question by question") {
  const Choice choices[] = {{2, 0}, {2, 0}, {2, 0}};
  const Scores model = scores_of_choices(answers_of({{1, 1}, {2, 1}, {1, 1}, {2, 1}, {1, 1}, {2, 1}}), choices);
  const Scores baseline = scores_of_choices(answers_of({{1, 1}, {2, 1}, {2, 1}, {1, 1}, {1, 1}, {2, 1}}), choices);
  const Comparison comparison = compare(model, baseline);
  REQUIRE(comparison.metrics.size() == 5);
  for (const size_t i : {3, 4}) {
    CHECK(comparison.metrics[i].difference.estimate == doctest::Approx(1.0 / 3));
    CHECK(comparison.metrics[i].ratio.estimate == doctest::Approx(1.5));
  }
  CHECK(comparison.metrics[4].metric == "accuracy_by_bytes");
  const std::vector<WindowDivergence> divergences = {{1, 0, 1}, {2, 0, 1}, {3, 0, 1}, {4, 0, 1}, {5, 0, 1}, {6, 0, 1}};
  const auto right = of_right_answers(divergences, choices);
  REQUIRE(right.size() == 3);
  CHECK(right[2].kl == 5);
}

TEST_CASE("questions must have the answers that were scored") {
  const Scores answers = answers_of({{1, 1}, {2, 1}, {3, 1}});
  const Choice few[] = {{2, 0}}, many[] = {{2, 0}, {2, 0}}, beyond[] = {{3, 3}};
  CHECK_THROWS_AS(scores_of_choices(answers, few), Error);
  CHECK_THROWS_AS(scores_of_choices(answers, many), Error);
  CHECK_THROWS_AS(scores_of_choices(answers, beyond), Error);
}
