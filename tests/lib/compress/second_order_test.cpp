// Second-order pruning against the normal equations, solved row by row in f64.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "compress/columns.h"
#include "compress/least_squares.h"
#include "compress/masks.h"
#include "compress/prune.h"
#include "kernels/rows/elementwise.h"
#include "lib/compress/models.h"
#include "lib/compress/related_inputs.h"
#include "support/check.h"
#include "support/masks.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr int64_t rows = 24;
constexpr int64_t cols = 96;

// The row's best values on its mask, by elimination.
std::vector<double> solved_row(const Tensor& w, const Bitmask& mask, const Tensor& c, int64_t r) {
  std::vector<int64_t> kept;
  for (int64_t j = 0; j < cols; ++j)
    if (mask.at(r, j)) kept.push_back(j);
  const size_t n = kept.size();
  const auto at = [&](int64_t i, int64_t j) { return static_cast<double>(c.data<float>()[i * cols + j]); };
  std::vector<std::vector<double>> a(n, std::vector<double>(n + 1));
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) a[i][j] = at(kept[i], kept[j]);
    for (int64_t j = 0; j < cols; ++j) a[i][n] += at(kept[i], j) * static_cast<double>(w.data<float>()[r * cols + j]);
  }
  for (size_t k = 0; k < n; ++k)
    for (size_t i = 0; i < n; ++i) {
      if (i == k) continue;
      const double factor = a[i][k] / a[k][k];
      for (size_t j = k; j <= n; ++j) a[i][j] -= factor * a[k][j];
    }
  std::vector<double> row(static_cast<size_t>(cols));
  for (size_t i = 0; i < n; ++i) row[static_cast<size_t>(kept[i])] = a[i][n] / a[i][i];
  return row;
}

Tensor solved(const Tensor& w, const Bitmask& mask, const Tensor& c) {
  Tensor result = Tensor::empty(w.shape());
  for (int64_t r = 0; r < rows; ++r) {
    const std::vector<double> row = solved_row(w, mask, c, r);
    for (int64_t j = 0; j < cols; ++j)
      result.data<float>()[r * cols + j] = static_cast<float>(row[static_cast<size_t>(j)]);
  }
  return result;
}

PrunedWeight prune(const char* method, const Tensor& w, const InputStatistics* inputs, double sparsity,
                   const char* kind = "unstructured", const Bitmask& before = {}) {
  const auto pattern = parse_pattern(kind);
  PrunedWeight pruned =
      prune_method(method).run({"layer", w, before, inputs, *pattern, pattern->fixed_sparsity().value_or(sparsity)});
  pruned.weight = masked(pruned.weight, pruned.mask);
  return pruned;
}

}  // namespace

TEST_CASE("least squares on a mask are those of the normal equations, and never worse than what they began with") {
  const InputStatistics inputs = related_inputs(cols);
  const Curvature curvature = curvature_of(&inputs, cols, "layer");
  const Tensor w = random_tensor({rows, cols}, 4);
  for (const double sparsity : {0.3, 0.8}) {
    const Bitmask mask = prune("magnitude", w, nullptr, sparsity).mask;
    const Tensor start = masked(w, mask), exact = solved(w, mask, curvature.matrix);
    const double least = output_error(w, exact, curvature).relative();
    LeastSquaresOptions thorough;
    thorough.tolerance = 1e-6;
    const Tensor found = least_squares(w, start, mask, curvature, thorough);
    CHECK(relative_error(found, exact) < 1e-3);
    CHECK(output_error(w, found, curvature).relative() == doctest::Approx(least).epsilon(1e-4));
    CHECK(output_error(w, least_squares(w, start, mask, curvature), curvature).relative() < 1.01 * least);
    LeastSquaresOptions hasty;
    hasty.most_iterations = 1;
    const double once = output_error(w, least_squares(w, start, mask, curvature, hasty), curvature).relative();
    CHECK(once < output_error(w, start, curvature).relative());
    CHECK(once > least);
    CHECK(same_bytes(mask_of_nonzeros(found), mask));
  }
}

TEST_CASE("columns make up for what one of them loses, as the least squares without it would") {
  const InputStatistics inputs = related_inputs(cols);
  const Curvature curvature = curvature_of(&inputs, cols, "layer");
  const Tensor w = random_tensor({rows, cols}, 5);
  CompensatedColumns columns(w, curvature, "layer");
  const float deviation = columns.deviation(0);
  columns.run(
      1, [](int64_t, int64_t) {}, [](int64_t, int64_t c, float x) { return c == 0 ? 0.0f : x; });
  Tensor without = Tensor::zeros({rows, cols}, DType::u8);
  for (int64_t i = 0; i < rows * cols; ++i) without.data<uint8_t>()[i] = i % cols != 0;
  const Tensor exact = solved(w, pack_mask(without), curvature.matrix);
  CHECK(relative_error(columns.weight(), exact) < 1e-3);
  // What it cost is what R_00 said.
  double cost = 0;
  for (int64_t r = 0; r < rows; ++r) cost += std::pow(static_cast<double>(w.data<float>()[r * cols] / deviation), 2);
  CHECK(output_error(w, exact, curvature).squared_error == doctest::Approx(cost).epsilon(1e-3));
}

TEST_CASE("each step leaves less error: the mask alone, SparseGPT, its mask solved, ALPS") {
  const InputStatistics inputs = related_inputs(cols),
                        squares = related_inputs(cols, 400, {StatisticKind::of<ColumnSquares>()});
  const Curvature curvature = curvature_of(&inputs, cols, "layer");
  const Tensor w = random_tensor({rows, cols}, 6);
  const auto error = [&](const Tensor& v) { return output_error(w, v, curvature).relative(); };
  for (const char* kind : {"unstructured", "2:4", "block:4x4"}) {
    CAPTURE(kind);
    const double wanda = error(prune("wanda", w, &squares, 0.5, kind).weight);
    const PrunedWeight sparsegpt = prune("sparsegpt", w, &inputs, 0.5, kind),
                       alps = prune("alps", w, &inputs, 0.5, kind);
    const double solved_mask = error(solved(w, sparsegpt.mask, curvature.matrix));
    CHECK(error(sparsegpt.weight) < 0.7 * wanda);
    CHECK(solved_mask < 0.95 * error(sparsegpt.weight));
    CHECK(error(alps.weight) < 0.95 * solved_mask);
    CHECK(error(alps.weight) < 1.01 * error(solved(w, alps.mask, curvature.matrix)));
    for (const PrunedWeight* pruned : {&sparsegpt, &alps}) {
      CHECK(pruned->mask.count() == rows * cols / 2);
      if (std::string(kind) == "2:4")
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t c = 0; c < cols; c += 4)
            CHECK(pruned->mask.at(r, c) + pruned->mask.at(r, c + 1) + pruned->mask.at(r, c + 2) +
                      pruned->mask.at(r, c + 3) ==
                  2);
    }
  }
}

TEST_CASE("without data second-order methods prune by magnitude and leave weights as they are") {
  const Tensor w = random_tensor({rows, cols}, 7);
  const PrunedWeight magnitude = prune("magnitude", w, nullptr, 0.5), alps = prune("alps", w, nullptr, 0.5);
  CHECK(same_bytes(alps.mask, magnitude.mask));
  CHECK(relative_error(alps.weight, magnitude.weight) < 1e-4);
  const PrunedWeight sparsegpt = prune("sparsegpt", w, nullptr, 0.5);
  CHECK(relative_error(sparsegpt.weight, masked(w, sparsegpt.mask)) == 0);
}

TEST_CASE("fewer tokens than inputs are dampened, the more the fewer, and counted") {
  const InputStatistics few = related_inputs(cols, 12), many = related_inputs(cols);
  CHECK(curvature_of(&few, cols, "w").damping > 4 * curvature_of(&many, cols, "w").damping);
  const Tensor w = random_tensor({rows, cols}, 8);
  const PrunedWeight pruned = prune("alps", w, &few, 0.5);
  CHECK(kernels::all_finite(pruned.weight.view()));
  CHECK(relative_error(pruned.weight, masked(w, pruned.mask)) < 1);

  const auto model = fresh(mixture_config());
  const auto pattern = parse_pattern("unstructured");
  const CalibrationText text = calibration_windows(2, 10);  // fewer tokens than the layers have inputs
  PruneSettings settings;
  settings.method = &prune_method("alps");
  settings.pattern = pattern.get();
  settings.rule = {std::regex("^blocks"), std::regex("^$")};
  settings.calibration = &text;
  leave_experts_alone(*model);
  for (const PrunedLayer& layer : prune_model(*model, settings)) {
    CAPTURE(layer.name);
    CHECK(layer.dampened == (layer.calibration_tokens.value() > 0));
    CHECK(layer.data_free == (layer.calibration_tokens.value() == 0));
    CHECK(layer.measured() == layer.dampened);
  }
}

TEST_CASE("least squares after any mask: the error falls, and the masks of magnitude are what they were") {
  const auto updated = fresh(), plain = fresh();
  const auto pattern = parse_pattern("unstructured");
  const CalibrationText text = calibration_windows(16, 32);
  PruneSettings settings;
  settings.method = &prune_method("magnitude");
  settings.pattern = pattern.get();
  settings.rule = {std::regex("^blocks"), std::regex("^$")};
  prune_model(*plain, settings);
  settings.update = true;
  CHECK(failure([&] { prune_model(*updated, settings); }).starts_with("2 "));
  settings.calibration = &text;
  for (const PrunedLayer& layer : prune_model(*updated, settings)) {
    CAPTURE(layer.name);
    CHECK(*layer.error < 0.9 * *layer.error_masked);
    const std::shared_ptr<Weight>& now = weight_named(*updated, layer.name);
    CHECK(same_bytes(now->mask(), weight_named(*plain, layer.name)->mask()));
    CHECK_FALSE(same_bytes(now->to_dense(), weight_named(*plain, layer.name)->to_dense()));
  }
}

TEST_CASE("inputs that are not numbers are refused by second-order methods, and the layer is named") {
  InputStatistics inputs({{StatisticKind::of<GramMatrix>()}}, cols, false);
  Tensor x = random_tensor({200, cols}, 9);
  x.data<float>()[77] = NAN;
  inputs.add(x.view());
  for (const char* method : {"sparsegpt", "alps"}) {
    const std::string text = failure([&] { prune(method, random_tensor({rows, cols}, 10), &inputs, 0.5); });
    CHECK(text.starts_with("3 layer: "));
  }
}
