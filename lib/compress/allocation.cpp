#include "compress/allocation.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/rows.h"

namespace hone {

// Each in a file of its own (allocations/).
Allocation owl_allocation();
Allocation search_allocation();

namespace {

Allotted uniform(Transformer& model, const PruneSettings& s) {
  Allotted result;
  for (const std::string& name : weights_to_prune(model, s)) result.sparsities.push_back({name, s.sparsity});
  return result;
}

double error_at(const ErrorCurve& curve, double density) {
  const auto above = std::lower_bound(curve.densities.begin(), curve.densities.end(), density);
  if (above == curve.densities.begin()) return curve.errors.front();
  if (above == curve.densities.end()) return curve.errors.back();
  const auto i = static_cast<size_t>(above - curve.densities.begin());
  const double part = (density - curve.densities[i - 1]) / (curve.densities[i] - curve.densities[i - 1]);
  return std::exp((1 - part) * std::log(curve.errors[i - 1]) + part * std::log(curve.errors[i]));
}

}  // namespace

std::vector<double> best_densities(const std::vector<ErrorCurve>& curves, double density) {
  constexpr int places = 400;
  double all = 0;
  for (const ErrorCurve& curve : curves) all += curve.elements;
  // At a price for each element that stays, every weight decides for itself; the price is halved in until they keep
  // together what is wanted.
  const auto decide = [&](double price) {
    std::vector<double> chosen;
    for (const ErrorCurve& curve : curves) {
      const double first = curve.densities.front(), last = curve.densities.back();
      double best = first, least = INFINITY;
      for (int i = 0; i <= places; ++i) {
        const double d = i == places ? last : first + (last - first) * i / places;
        const double cost = error_at(curve, d) + price * curve.elements * d;
        if (cost < least) least = cost, best = d;
      }
      chosen.push_back(best);
    }
    return chosen;
  };
  const auto mean_of = [&](const std::vector<double>& chosen) {
    double kept = 0;
    for (size_t i = 0; i < curves.size(); ++i) kept += curves[i].elements * chosen[i];
    return kept / all;
  };
  double low = std::log(1e-30), high = std::log(1e6);
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (mean_of(decide(std::exp(middle))) > density ? low : high) = middle;
  }
  // Of the two on either side of the jump, mixed: exactly what is wanted.
  std::vector<double> more = decide(std::exp(low)), fewer = decide(std::exp(high));
  const double above = mean_of(more), below = mean_of(fewer);
  const double part = above > below ? std::clamp((density - below) / (above - below), 0.0, 1.0) : 0;
  for (size_t i = 0; i < more.size(); ++i) fewer[i] += part * (more[i] - fewer[i]);
  return fewer;
}

Allocation uniform_allocation() {
  return {"uniform", "every weight alike", false, uniform};
}

std::span<const Allocation> allocations() {
  static const Allocation kinds[] = {uniform_allocation(), owl_allocation(), search_allocation()};
  return kinds;
}

const Allocation& allocation_named(std::string_view name) {
  return row_called(allocations(), name, "allocation");
}

}  // namespace hone
