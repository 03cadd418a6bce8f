#include "compress/units.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "compress/masks.h"
#include "support/check.h"

using namespace hone;
using namespace hone::test;

namespace {

// Inputs that depend on each other: the last columns are sums of others, with a little of their own.
Tensor inputs(int64_t tokens, int64_t cols, int64_t dependent) {
  Tensor x = random_tensor({tokens, cols}, 7);
  for (int64_t t = 0; t < tokens; ++t) {
    float* row = x.data<float>() + t * cols;
    for (int64_t d = 0; d < dependent; ++d)
      row[cols - 1 - d] = row[d] - 0.5f * row[d + 1] + 0.05f * row[cols - 1 - d] + 1.0f;
  }
  return x;
}

InputStatistics measured(const Tensor& x, bool centred) {
  InputStatistics statistics(moment_needs(centred), x.dim(1), false);
  statistics.add(x.view());
  return statistics;
}

// Mean squared error of x W^T + b against x V^T + c.
double output_error(const Tensor& x, const Tensor& w, const Tensor& v, const Tensor& gain = {}) {
  double sum = 0;
  for (int64_t t = 0; t < x.dim(0); ++t)
    for (int64_t r = 0; r < w.dim(0); ++r) {
      double d = gain ? static_cast<double>(gain.data<float>()[r]) : 0;
      for (int64_t c = 0; c < w.dim(1); ++c)
        d += static_cast<double>(x.data<float>()[t * x.dim(1) + c]) *
             static_cast<double>(v.data<float>()[r * w.dim(1) + c] - w.data<float>()[r * w.dim(1) + c]);
      sum += d * d;
    }
  return sum / static_cast<double>(x.dim(0));
}

Tensor cut(const Tensor& w, const std::vector<int64_t>& kept) {
  Tensor t = w.clone();
  for (int64_t c = 0; c < w.dim(1); ++c)
    if (!std::binary_search(kept.begin(), kept.end(), c))
      for (int64_t r = 0; r < w.dim(0); ++r) t.data<float>()[r * w.dim(1) + c] = 0;
  return t;
}

}  // namespace

TEST_CASE("units go that the others can make up for, and the cost that is told is the damped error of the refit") {
  const Tensor x = inputs(400, 24, 6), w = random_tensor({10, 24}, 2);
  const InputMoments c = moments_of(nullptr, 24, false, "w");
  const InputStatistics statistics = measured(x, false);
  const InputMoments g = moments_of(&statistics, 24, false, "w");
  const UnitChoice choice = choose_units(w, g, 1, 6);
  REQUIRE(choice.kept.size() == 18);
  const Tensor refitted = refit_columns(w, {}, g, choice.kept);
  const double error = output_error(x, w, refitted);
  // Against what a cut without a refit does, and the choice by size of the weights alone.
  CHECK(error < 0.2 * output_error(x, w, cut(w, choice.kept)));
  const UnitChoice blind = choose_units(w, c, 1, 6);
  CHECK(error < 0.5 * output_error(x, w, refit_columns(w, {}, g, blind.kept)));
  // The error that the choice tells: tr((W' - W) G (W' - W)^T) of the damped G over tr(W G W^T).
  const auto damped = [&](const Tensor& a) {
    double sum = 0;
    for (int64_t r = 0; r < 10; ++r)
      for (int64_t i = 0; i < 24; ++i)
        for (int64_t j = 0; j < 24; ++j)
          sum += static_cast<double>(a.data<float>()[r * 24 + i]) * g.gram[static_cast<size_t>(i * 24 + j)] *
                 static_cast<double>(a.data<float>()[r * 24 + j]);
    return sum;
  };
  Tensor difference = w.clone();
  for (int64_t i = 0; i < w.size(); ++i) difference.data<float>()[i] -= refitted.data<float>()[i];
  CHECK(choice.error == doctest::Approx(damped(difference) / damped(w)).epsilon(1e-4));
}

TEST_CASE("units of several columns, and at most so many of each group") {
  const Tensor x = inputs(300, 24, 8), w = random_tensor({6, 24}, 3);
  const InputStatistics statistics = measured(x, false);
  const InputMoments g = moments_of(&statistics, 24, false, "w");
  const UnitChoice wide = choose_units(w, g, 4, 2);
  CHECK(wide.kept.size() == 4);
  // The greedy choice of one is the best of all.
  double least = 1e30;
  int64_t best = -1;
  for (int64_t u = 0; u < 6; ++u) {
    std::vector<int64_t> kept;
    for (int64_t c = 0; c < 24; ++c)
      if (c / 4 != u) kept.push_back(c);
    const double error = output_error(x, w, refit_columns(w, {}, g, kept));
    if (error < least) least = error, best = u;
  }
  const UnitChoice one = choose_units(w, g, 4, 1);
  CHECK(!std::binary_search(one.kept.begin(), one.kept.end(), best));
  const UnitChoice each = choose_units(w, g, 4, 2, {0, 0, 0, 1, 1, 1}, 1);
  CHECK(std::count_if(each.kept.begin(), each.kept.end(), [](int64_t u) { return u < 3; }) == 2);
}

TEST_CASE("a mask keeps its zeros, and the rest of each row is its least squares") {
  const Tensor x = inputs(300, 16, 4), w = random_tensor({5, 16}, 4);
  Tensor kept = Tensor::zeros({5, 16}, DType::u8);
  for (int64_t i = 0; i < 80; ++i) kept.data<uint8_t>()[i] = i % 3 != 0;
  const Bitmask mask = pack_mask(kept);
  const InputStatistics statistics = measured(x, false);
  const InputMoments g = moments_of(&statistics, 16, false, "w");
  const std::vector<int64_t> columns = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  Tensor masked = w.clone();
  for (int64_t i = 0; i < 80; ++i)
    if (!kept.data<uint8_t>()[i]) masked.data<float>()[i] = 0;
  const Tensor fitted = refit_columns(masked, mask, g, columns);
  for (int64_t i = 0; i < 80; ++i)
    if (!kept.data<uint8_t>()[i]) CHECK(fitted.data<float>()[i] == 0);
  // Row by row the same as least squares on the columns that the row has.
  for (int64_t r = 0; r < 5; ++r) {
    std::vector<int64_t> own;
    for (const int64_t c : columns)
      if (kept.data<uint8_t>()[r * 16 + c]) own.push_back(c);
    const Tensor row = refit_columns(masked.rows(r, 1), {}, g, own);
    CHECK(relative_error(fitted.rows(r, 1), row) < 1e-4);
  }
}

TEST_CASE("a bias takes up the means") {
  const Tensor x = inputs(400, 24, 6), w = random_tensor({10, 24}, 5);
  const InputStatistics statistics = measured(x, true);
  const InputMoments centred = moments_of(&statistics, 24, true, "w");
  std::vector<int64_t> kept;
  for (int64_t c = 6; c < 24; ++c) kept.push_back(c);
  const Tensor fitted = refit_columns(w, {}, centred, kept);
  const Tensor gain = bias_gain(w, fitted, centred);
  const InputMoments plain = moments_of(&statistics, 24, false, "w");
  CHECK(output_error(x, w, fitted, gain) < 0.95 * output_error(x, w, refit_columns(w, {}, plain, kept)));
}
