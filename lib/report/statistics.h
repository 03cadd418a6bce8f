// Statistics of samples: mean, spread, percentiles, and confidence intervals of paired differences and ratios.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

namespace hone {

// Mean and variance in one pass without cancellation (Welford 1962). Everything is NaN where it is not defined.
class RunningStatistics {
 public:
  void add(double x);

  int64_t count() const { return count_; }
  double mean() const { return count_ > 0 ? mean_ : nan; }
  double variance() const {
    return count_ > 1 ? squares_ / static_cast<double>(count_ - 1) : nan;
  }  // of a sample: n - 1
  double deviation() const;
  double standard_error() const;  // of the mean
  double min() const { return count_ > 0 ? min_ : nan; }
  double max() const { return count_ > 0 ? max_ : nan; }

 private:
  static constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  int64_t count_ = 0;
  double mean_ = 0, squares_ = 0, min_ = 0, max_ = 0;
};

// The value below which `percent` (0 to 100) of the samples lie, linear between neighbours: rank percent/100 * (n - 1)
// of the sorted samples, definition 7 of Hyndman & Fan 1996. One sample is every percentile of itself; of none it is
// NaN.
double percentile(std::span<const double> samples, double percent);
double median(std::span<const double> samples);

// The median distance from the median: a spread that one slow repetition does not move. NaN of no sample.
double median_absolute_deviation(std::span<const double> samples);

// What a table of timings prints of its repetitions.
struct Summary {
  int64_t count = 0;
  double mean, deviation, min, max, p50, p95, p99, spread;  // spread: the median absolute deviation
};
Summary summarize(std::span<const double> samples);

// An estimate with the ends of its 95% confidence interval; low and high are NaN where fewer than two samples give no
// width.
struct Interval {
  double estimate = std::numeric_limits<double>::quiet_NaN();
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();
};

// Quantile of Student's t: a value of `degrees` degrees of freedom lies within +-result with probability `confidence`.
double student_t(double confidence, int64_t degrees);

// Interval of a mean: mean +- t * standard error.
Interval mean_interval(std::span<const double> samples);

// Sum of `over` divided by sum of `under`, for pairs that were drawn together (windows of a text with their losses and
// token counts, or the losses of two models on the same windows: then it is the interval of mean(a) / mean(b)).
// Interval by linearization: estimate +- t * s / (mean(under) * sqrt(n)), where s is the deviation of over_i - estimate
// * under_i (Cochran 1977, Sampling Techniques, eq. 6.13). That the pairs share what makes a window hard cancels in s;
// this is why it is far narrower than two separate intervals.
Interval ratio_of_sums(std::span<const double> over, std::span<const double> under);

}  // namespace hone
