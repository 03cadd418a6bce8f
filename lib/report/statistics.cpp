#include "report/statistics.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numbers>
#include <numeric>
#include <vector>

namespace hone {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

double sorted_percentile(const std::vector<double>& sorted, double percent) {
  if (sorted.empty()) return nan;
  const double rank = std::clamp(percent, 0.0, 100.0) / 100 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(rank);
  const double part = rank - static_cast<double>(below);
  if (part == 0) return sorted[below];  // also keeps an infinite neighbour out of it
  return sorted[below] + part * (sorted[below + 1] - sorted[below]);
}

std::vector<double> sorted_copy(std::span<const double> samples) {
  std::vector<double> sorted(samples.begin(), samples.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

double sum(std::span<const double> x) {
  return std::accumulate(x.begin(), x.end(), 0.0);
}

// Probability that |T| < t for Student's T with whole degrees of freedom: the finite sums of Abramowitz &
// Stegun 26.7.3-4.
double student_probability(double t, int64_t degrees) {
  const double theta = std::atan(t / std::sqrt(static_cast<double>(degrees)));
  const double sine = std::sin(theta), cosine = std::cos(theta), square = cosine * cosine;
  const bool odd = degrees % 2 == 1;
  double term = odd ? cosine : 1.0, total = 0;
  for (int64_t i = odd ? 1 : 0; i <= degrees - 2; i += 2) {
    total += term;
    term *= square * static_cast<double>(i + 1) / static_cast<double>(i + 2);
  }
  return odd ? 2 / std::numbers::pi * (theta + sine * total) : sine * total;
}

Interval around(double estimate, double standard_error, size_t samples) {
  if (samples < 2) return {estimate, nan, nan};
  const double half = student_t(0.95, static_cast<int64_t>(samples) - 1) * standard_error;
  return {estimate, estimate - half, estimate + half};
}

}  // namespace

void RunningStatistics::add(double x) {
  min_ = count_ == 0 ? x : std::min(min_, x);
  max_ = count_ == 0 ? x : std::max(max_, x);
  ++count_;
  const double before = x - mean_;
  mean_ += before / static_cast<double>(count_);
  squares_ += before * (x - mean_);
}

double RunningStatistics::deviation() const {
  return std::sqrt(variance());
}

double RunningStatistics::standard_error() const {
  return std::sqrt(variance() / static_cast<double>(count_));
}

double percentile(std::span<const double> samples, double percent) {
  return sorted_percentile(sorted_copy(samples), percent);
}

double median(std::span<const double> samples) {
  return percentile(samples, 50);
}

double median_absolute_deviation(std::span<const double> samples) {
  const double middle = median(samples);
  std::vector<double> distances(samples.begin(), samples.end());
  for (double& x : distances) x = std::abs(x - middle);
  return median(distances);
}

Summary summarize(std::span<const double> samples) {
  RunningStatistics running;
  for (const double x : samples) running.add(x);
  const std::vector<double> sorted = sorted_copy(samples);
  return {.count = running.count(),
          .mean = running.mean(),
          .deviation = running.deviation(),
          .min = running.min(),
          .max = running.max(),
          .p50 = sorted_percentile(sorted, 50),
          .p95 = sorted_percentile(sorted, 95),
          .p99 = sorted_percentile(sorted, 99),
          .spread = median_absolute_deviation(samples)};
}

double student_t(double confidence, int64_t degrees) {
  assert(confidence > 0 && confidence < 1 && degrees > 0);
  // The finite sum has `degrees` / 2 terms. Beyond this many the quantile is within 0.02% of the normal one and moves
  // no more than that.
  const int64_t used = std::min<int64_t>(degrees, 10000);
  double low = 0, high = 1;
  while (student_probability(high, used) < confidence) high *= 2;
  for (int i = 0; i < 60 && high - low > 1e-10 * high; ++i) {
    const double middle = (low + high) / 2;
    (student_probability(middle, used) < confidence ? low : high) = middle;
  }
  return (low + high) / 2;
}

Interval mean_interval(std::span<const double> samples) {
  RunningStatistics running;
  for (const double x : samples) running.add(x);
  return around(running.mean(), running.standard_error(), samples.size());
}

Interval ratio_of_sums(std::span<const double> over, std::span<const double> under) {
  assert(over.size() == under.size());
  const double total = sum(under);
  if (over.empty() || total == 0) return {};
  const double ratio = sum(over) / total;
  const auto n = static_cast<double>(over.size());
  double squares = 0;
  for (size_t i = 0; i < over.size(); ++i) {
    const double rest = over[i] - ratio * under[i];  // these sum to 0, so their deviation needs no mean
    squares += rest * rest;
  }
  return around(ratio, std::sqrt(squares / (n - 1) / n) / std::abs(total / n), over.size());
}

Interval paired_difference(std::span<const double> a, std::span<const double> b) {
  assert(a.size() == b.size());
  std::vector<double> differences(a.begin(), a.end());
  for (size_t i = 0; i < differences.size(); ++i) differences[i] -= b[i];
  return mean_interval(differences);
}

Interval paired_ratio(std::span<const double> a, std::span<const double> b) {
  return ratio_of_sums(a, b);
}

}  // namespace hone
