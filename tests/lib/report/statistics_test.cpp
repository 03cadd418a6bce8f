#include "report/statistics.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "base/random.h"

using namespace hone;
using doctest::Approx;

TEST_CASE("running statistics equal the two-pass formulas, far from zero too") {
  for (const double offset : {0.0, 1e9}) {
    RunningStatistics running;
    const std::vector<double> samples = {2, 4, 4, 4, 5, 5, 7, 9};
    for (const double x : samples) running.add(x + offset);
    CHECK(running.count() == 8);
    CHECK(running.mean() == Approx(5 + offset).epsilon(1e-15));
    CHECK(running.variance() == Approx(32.0 / 7).epsilon(1e-6));
    CHECK(running.deviation() == Approx(std::sqrt(32.0 / 7)).epsilon(1e-6));
    CHECK(running.standard_error() == Approx(std::sqrt(32.0 / 7 / 8)).epsilon(1e-6));
    CHECK(running.min() == 2 + offset);
    CHECK(running.max() == 9 + offset);
  }
}

TEST_CASE("what is not defined is NaN") {
  RunningStatistics running;
  CHECK(std::isnan(running.mean()));
  CHECK(std::isnan(running.min()));
  running.add(3);
  CHECK(running.mean() == 3);
  CHECK(std::isnan(running.variance()));
  CHECK(std::isnan(median({})));
  CHECK(std::isnan(median_absolute_deviation({})));
  CHECK(std::isnan(mean_interval({}).estimate));
}

TEST_CASE("percentiles interpolate between the sorted samples") {
  const std::vector<double> samples = {40, 10, 30, 20};
  CHECK(percentile(samples, 0) == 10);
  CHECK(percentile(samples, 50) == 25);
  CHECK(percentile(samples, 95) == Approx(38.5));
  CHECK(percentile(samples, 100) == 40);
  const std::vector<double> one = {7};
  for (const double p : {0.0, 50.0, 99.0, 100.0}) CHECK(percentile(one, p) == 7);
}

TEST_CASE("the median absolute deviation ignores an outlier") {
  CHECK(median_absolute_deviation(std::vector<double>{1, 1, 2, 2, 4, 6, 9}) == 1);
  CHECK(median_absolute_deviation(std::vector<double>{10, 11, 12, 1000}) == 1);
  const Summary summary = summarize(std::vector<double>{3, 1, 2});
  CHECK(summary.count == 3);
  CHECK(summary.p50 == 2);
  CHECK(summary.mean == 2);
  CHECK(summary.spread == 1);
  CHECK(summary.p99 == Approx(2.98));
}

TEST_CASE("Student's t has the tabulated quantiles") {
  CHECK(student_t(0.95, 1) == Approx(12.7062).epsilon(1e-5));
  CHECK(student_t(0.95, 2) == Approx(4.30265).epsilon(1e-5));
  CHECK(student_t(0.95, 3) == Approx(3.18245).epsilon(1e-5));
  CHECK(student_t(0.95, 10) == Approx(2.22814).epsilon(1e-5));
  CHECK(student_t(0.99, 7) == Approx(3.49948).epsilon(1e-5));
  CHECK(student_t(0.95, 100) == Approx(1.98397).epsilon(1e-5));
  CHECK(student_t(0.95, 1000000000) == Approx(1.95996).epsilon(3e-4));
}

TEST_CASE("intervals of means, differences and ratios equal their formulas") {
  const std::vector<double> a = {1.1, 2.3, 2.9, 4.2}, b = {1, 2, 3, 4};
  const Interval mean = mean_interval(b);
  CHECK(mean.estimate == 2.5);
  CHECK(mean.high - 2.5 == Approx(3.18245 * std::sqrt(5.0 / 3 / 4)).epsilon(1e-5));
  CHECK(2.5 - mean.low == Approx(mean.high - 2.5));

  const Interval difference = paired_difference(a, b);  // differences 0.1 0.3 -0.1 0.2
  CHECK(difference.estimate == Approx(0.125));
  CHECK(difference.high == Approx(0.125 + 3.18245 * std::sqrt(0.0875 / 3 / 4)).epsilon(1e-4));

  const Interval ratio = paired_ratio(a, b);
  CHECK(ratio.estimate == Approx(1.05));
  CHECK(ratio.low < 1.05);
  CHECK(ratio.high > 1.05);

  const Interval exact = ratio_of_sums(std::vector<double>{2, 4, 6}, std::vector<double>{1, 2, 3});
  CHECK(exact.low == 2);
  CHECK(exact.high == 2);

  const Interval single = paired_ratio(std::vector<double>{3}, std::vector<double>{2});
  CHECK(single.estimate == 1.5);
  CHECK(std::isnan(single.low));
  CHECK(std::isnan(ratio_of_sums(std::vector<double>{1, 1}, std::vector<double>{1, -1}).estimate));
}

TEST_CASE("a 95% interval holds the truth about 95 times in 100, and pairing narrows it") {
  Random random(5, "coverage");
  int inside = 0, narrower = 0;
  const int trials = 2000, n = 12;
  for (int trial = 0; trial < trials; ++trial) {
    std::vector<double> a, b;
    for (int i = 0; i < n; ++i) {
      const double hard = 3 + random.normal() * 0.5;  // what both models find hard in a window
      b.push_back(hard + random.normal() * 0.05);
      a.push_back(hard * 1.02 + random.normal() * 0.05);
    }
    const Interval ratio = paired_ratio(a, b);
    inside += ratio.low <= 1.02 && 1.02 <= ratio.high;
    const Interval difference = paired_difference(a, b), alone = mean_interval(a);
    narrower += difference.high - difference.low < alone.high - alone.low;
  }
  CHECK(inside > trials * 0.93);
  CHECK(inside < trials * 0.97);
  CHECK(narrower > trials * 0.99);
}
