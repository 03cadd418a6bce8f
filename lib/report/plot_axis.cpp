// Ticks of plot axes and their labels.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "report/plot.h"

namespace hone {
namespace {

std::vector<double> linear_ticks(double low, double high, int wanted) {
  if (high - low <= 1e-9 * std::max(std::abs(low), std::abs(high))) {  // one value: a little room on both sides
    const double room = low == 0 ? 1 : std::abs(low) * 0.1;
    return linear_ticks(low - room, high + room, wanted);
  }
  const double raw = (high - low) / std::max(wanted - 1, 1);
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double multiple : {1.0, 2.0, 5.0})
    if (multiple * power >= raw * (1 - 1e-9)) {
      step = multiple * power;
      break;
    }
  std::vector<double> ticks;
  const double first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  for (double i = first; i <= last; ++i) ticks.push_back(i * step);
  return ticks;
}

std::vector<double> logarithmic_ticks(double low, double high, int wanted) {
  if (high / low < 10) {
    std::vector<double> ticks = linear_ticks(low, high, wanted);
    if (ticks.front() <= 0) ticks.front() = low;
    return ticks;
  }
  const auto candidates = [&](std::span<const double> multiples) {
    std::vector<double> all;
    for (int e = static_cast<int>(std::floor(std::log10(low))) - 1;
         e <= static_cast<int>(std::ceil(std::log10(high))) + 1; ++e)
      for (const double multiple : multiples) all.push_back(multiple * std::pow(10.0, e));
    // From the last at or below `low` to the first at or above `high`.
    const auto begin = std::upper_bound(all.begin(), all.end(), low * (1 + 1e-9)) - 1;
    const auto end = std::lower_bound(all.begin(), all.end(), high * (1 - 1e-9)) + 1;
    return std::vector<double>(begin, std::max(end, begin + 2));
  };
  std::vector<double> ticks = candidates(std::array{1.0});
  if (ticks.size() < 4) ticks = candidates(std::array{1.0, 2.0, 5.0});
  // Over many powers of ten, every second or third of them.
  const size_t stride = (ticks.size() + static_cast<size_t>(wanted)) / static_cast<size_t>(wanted + 1);
  if (stride <= 1) return ticks;
  const double ratio = std::pow(10.0, static_cast<double>(stride));
  std::vector<double> thin;
  for (double tick = ticks.front(); thin.empty() || thin.back() < high * (1 - 1e-9); tick *= ratio)
    thin.push_back(tick);
  return thin;
}

}  // namespace

std::vector<double> axis_ticks(double low, double high, int wanted, bool logarithmic) {
  return logarithmic ? logarithmic_ticks(low, high, wanted) : linear_ticks(low, high, wanted);
}

std::vector<std::string> tick_labels(std::span<const double> ticks, bool logarithmic) {
  constexpr std::array<const char*, 5> letters = {"", "k", "M", "G", "T"};
  std::vector<std::string> labels;
  double largest = 0;
  for (const double tick : ticks) largest = std::max(largest, std::abs(tick));
  const double gap = logarithmic || ticks.size() < 2 ? 0 : std::abs(ticks[1] - ticks[0]);
  const auto power_of = [&](double size) {
    size_t power = 0;
    for (double rest = gap; power + 1 < letters.size() && (size >= 10000 || rest >= 1000); ++power) {
      size /= 1000;
      rest /= 1000;
    }
    return power;
  };
  for (const double tick : ticks) {
    const size_t power = power_of(logarithmic ? std::abs(tick) : largest);
    const double scale = std::pow(1000.0, static_cast<double>(power));
    if (tick == 0)
      labels.push_back("0");
    else if (logarithmic || ticks.size() < 2) {
      labels.push_back(fmt::format("{:.6g}{}", tick / scale, letters[power]));
    } else {
      // As many decimals as the step between ticks needs.
      const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(gap / scale) - 1e-9)), 0, 12);
      labels.push_back(fmt::format("{:.{}f}{}", tick / scale, decimals, letters[power]));
    }
  }
  return labels;
}

}  // namespace hone
