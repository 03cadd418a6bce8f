// Sparsities of layers: their total, OWL by a computation of its own, and what the search reaches.
#include "compress/allocation.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "compress/reference.h"
#include "lib/compress/models.h"
#include "support/check.h"
#include "support/turns.h"

using namespace hone;
using namespace hone::test;

namespace {

struct Setup {
  std::unique_ptr<Transformer> model;
  std::shared_ptr<const Pattern> pattern = parse_pattern("unstructured");
  CalibrationText text = calibration_windows(16, 32);
  PruneSettings settings;

  explicit Setup(const char* method, double sparsity, const Config& config = small_config(),
                 const char* targets = "^blocks")
      : model(fresh(config)) {
    settings.method = &prune_method(method);
    settings.pattern = pattern.get();
    settings.sparsity = sparsity;
    settings.rule = {std::regex(targets), std::regex("^$")};
    settings.calibration = &text;
  }

  // The part of the elements of all weights together that these sparsities prune.
  double total(const std::vector<LayerSparsity>& sparsities) const {
    double pruned = 0, all = 0;
    for (const LayerSparsity& layer : sparsities) {
      const auto elements = static_cast<double>(weight_named(*model, layer.name)->to_dense().size());
      pruned += layer.sparsity * elements;
      all += elements;
    }
    return pruned / all;
  }
};

double spread_of(const std::vector<LayerSparsity>& sparsities) {
  const auto [least, most] = std::minmax_element(sparsities.begin(), sparsities.end(),
                                                 [](const auto& a, const auto& b) { return a.sparsity < b.sparsity; });
  return most->sparsity - least->sparsity;
}

// Of x, f32 [rows, cols]: each row over its root mean square (the gains of fresh models are 1).
std::vector<std::vector<double>> normalized(const std::vector<std::vector<double>>& x) {
  auto y = x;
  for (auto& row : y) {
    double square = 0;
    for (const double v : row) square += v * v / static_cast<double>(row.size());
    for (double& v : row) v /= std::sqrt(square + 1e-5);
  }
  return y;
}

// The part of |w| ||x|| above five times their mean.
double outliers_of(const Tensor& w, const std::vector<std::vector<double>>& x) {
  std::vector<double> scores;
  const auto cols = static_cast<size_t>(w.dim(1));
  std::vector<double> norms(cols);
  for (size_t c = 0; c < cols; ++c) {
    for (const auto& row : x) norms[c] += row[c] * row[c];
    norms[c] = std::sqrt(norms[c]);
  }
  for (size_t i = 0; i < static_cast<size_t>(w.size()); ++i)
    scores.push_back(std::fabs(static_cast<double>(w.data<float>()[i])) * norms[i % cols]);
  const double mean = std::accumulate(scores.begin(), scores.end(), 0.0) / static_cast<double>(scores.size());
  double above = 0;
  for (const double score : scores) above += score > 5 * mean;
  return above / static_cast<double>(scores.size());
}

}  // namespace

TEST_CASE("best densities: what is asked for exactly, less error than all alike, and the same as trying them") {
  const std::vector<ErrorCurve> curves = {
      {1000, {0.1, 0.3, 0.9}, {1, 0.2, 0.01}}, {3000, {0.1, 0.4, 0.9}, {0.3, 0.1, 0.09}}, {500, {0.4}, {1}}};
  const auto error = [&](size_t i, double d) {  // by the definition
    const auto& [elements, x, y] = curves[i];
    for (size_t k = 1; k < x.size(); ++k)
      if (d <= x[k]) return y[k - 1] * std::pow(y[k] / y[k - 1], (d - x[k - 1]) / (x[k] - x[k - 1]));
    return y.back();
  };
  const std::vector<double> best = best_densities(curves, 0.4);
  CHECK(1000 * best[0] + 3000 * best[1] + 500 * best[2] == doctest::Approx(0.4 * 4500).epsilon(1e-12));
  CHECK(best[2] == 0.4);
  double least = INFINITY;  // of a fine grid of the first, which decides the second
  for (double d = 0.1; d <= 0.9; d += 0.0005) {
    const double second = (0.4 * 4000 - 1000 * d) / 3000;
    if (second >= 0.1 && second <= 0.9) least = std::min(least, error(0, d) + error(1, second));
  }
  CHECK(error(0, best[0]) + error(1, best[1]) < 1.01 * least);
  CHECK(least < 0.9 * (error(0, 0.4) + error(1, 0.4)));
  // Nothing beyond the curves, and nothing to choose where all is kept.
  for (const double d : best_densities({{10, {0.2, 0.5}, {2, 1}}, {10, {0.2, 0.5}, {3, 1}}}, 0.5)) CHECK(d == 0.5);
  for (const double d : best_densities({{10, {0.2, 0.5}, {2, 1}}, {10, {0.2, 0.5}, {3, 1}}}, 0.2)) CHECK(d == 0.2);
}

TEST_CASE("owl: the blocks' outliers, computed apart, decide, and the total stays") {
  // Layers of a feed-forward alone, whose inputs are easily computed.
  Config config = small_config();
  config.block.activation = activation_named("gelu");
  config.layers = {{0, 0, 40, "full"}, {0, 0, 24, "full"}, {0, 0, 64, "full"}};
  Setup setup("wanda", 0.6, config, "up");
  // Some weights far above others, in each block another part.
  for (int layer = 0; layer < 3; ++layer) {
    Parameter& up = *weight_named(*setup.model, fmt::format("blocks.{}.feed_forward.up.weight", layer))->parameter();
    for (int64_t i = 0; i < up.value.size(); i += 40 - 12 * layer) up.value.data<float>()[i] *= 12;
    ++up.version;
  }
  setup.settings.type = DType::f32;
  const Allotted found = allocation_named("owl").run(*setup.model, setup.settings);
  REQUIRE(found.sparsities.size() == 3);

  const Tensor embedding = weight_named(*setup.model, "embedding.weight")->to_dense();
  std::vector<std::vector<double>> stream;
  for (const int32_t id : setup.text.ids)
    stream.emplace_back(embedding.data<float>() + id * 48, embedding.data<float>() + (id + 1) * 48);
  std::vector<double> parts;
  for (int layer = 0; layer < 3; ++layer) {
    const Tensor up = weight_named(*setup.model, fmt::format("blocks.{}.feed_forward.up.weight", layer))->to_dense();
    const Tensor down =
        weight_named(*setup.model, fmt::format("blocks.{}.feed_forward.down.weight", layer))->to_dense();
    const auto x = normalized(stream);
    parts.push_back(outliers_of(up, x));
    for (size_t t = 0; t < x.size(); ++t)
      for (int64_t unit = 0; unit < up.dim(0); ++unit) {
        double h = 0;
        for (int64_t c = 0; c < 48; ++c)
          h += static_cast<double>(up.data<float>()[unit * 48 + c]) * x[t][static_cast<size_t>(c)];
        h *= 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (h + 0.044715 * h * h * h)));
        for (int64_t c = 0; c < 48; ++c)
          stream[t][static_cast<size_t>(c)] += static_cast<double>(down.data<float>()[c * up.dim(0) + unit]) * h;
      }
  }
  const auto [least, most] = std::minmax_element(parts.begin(), parts.end());
  REQUIRE(*most > *least);
  std::vector<double> expected;
  double mean = 0;
  const double widths[] = {40, 24, 64};
  for (size_t i = 0; i < 3; ++i) {
    expected.push_back(0.6 + 0.08 * (1 - 2 * (parts[i] - *least) / (*most - *least)));
    mean += widths[i] / 128 * (expected.back() - 0.6);
  }
  for (size_t i = 0; i < 3; ++i) {
    CAPTURE(i);
    CHECK(found.sparsities[i].sparsity == doctest::Approx(expected[i] - mean).epsilon(1e-3));
  }
  CHECK(spread_of(found.sparsities) == doctest::Approx(0.16));
  CHECK(setup.total(found.sparsities) == doctest::Approx(0.6).epsilon(1e-9));
}

TEST_CASE("owl stays within what can be pruned, and all alike where nothing differs") {
  for (const double sparsity : {0.0, 0.02, 0.5, 0.97}) {
    CAPTURE(sparsity);
    Setup setup("wanda", sparsity);
    const Allotted found = allocation_named("owl").run(*setup.model, setup.settings);
    for (const LayerSparsity& layer : found.sparsities) {
      CHECK(layer.sparsity >= 0);
      CHECK(layer.sparsity < 1);
    }
    CHECK(setup.total(found.sparsities) == doctest::Approx(sparsity).epsilon(1e-9));
    setup.settings.own = found.sparsities;
    for (const PrunedLayer& layer : prune_model(*setup.model, setup.settings))
      CHECK(layer.sparsity == doctest::Approx(setup.settings.sparsity_of(layer.name)).epsilon(2e-3));
  }
}

TEST_CASE("search: not worse than all alike on the calibration text, never more weights, and the model as before") {
  int64_t turn = 0;
  for (const char* method : {"magnitude", "alps"}) {
    if (!takes_turn(turn++, 2)) continue;  // the other is long, and searched with in the same way
    CAPTURE(method);
    Setup setup(method, 0.7);
    const auto before = weights_of(*setup.model);
    const auto untouched = fresh();
    const Allotted found = allocation_named("search").run(*setup.model, setup.settings);
    CHECK(weights_of(*setup.model) == before);
    for (const LayerSparsity& layer : found.sparsities)
      CHECK(same_bytes(weight_named(*setup.model, layer.name)->to_dense(),
                       weight_named(*untouched, layer.name)->to_dense()));
    REQUIRE(found.kl.has_value());
    CHECK(*found.kl <= *found.kl_uniform);
    CHECK(spread_of(found.sparsities) > 0.02);
    CHECK(setup.total(found.sparsities) == doctest::Approx(0.7).epsilon(1e-9));

    const Reference reference(*setup.model, setup.text, DType::f32);
    const auto pruned = [&](const std::vector<LayerSparsity>& own) {
      Setup other(method, 0.7);
      other.settings.own = own;
      double kept = 0, all = 0;
      for (const PrunedLayer& layer : prune_model(*other.model, other.settings)) {
        const auto elements = static_cast<double>(layer.rows * layer.cols);
        kept += (1 - layer.sparsity) * elements;
        all += elements;
      }
      CHECK(kept <= 0.3 * all + 1e-6);
      CHECK(kept >= 0.3 * all - 8);  // each of the 8 weights is rounded down
      return reference.distance(*other.model).kl;
    };
    CHECK(pruned(found.sparsities) == doctest::Approx(*found.kl).epsilon(1e-6));
    CHECK(pruned({}) == doctest::Approx(*found.kl_uniform).epsilon(1e-6));
  }
}

TEST_CASE("search leaves a block of each weight, experts without tokens as all, and says nothing at no sparsity") {
  Setup blocks("alps", 0.75);
  blocks.pattern = parse_pattern("block:16x16");
  blocks.settings.pattern = blocks.pattern.get();
  blocks.settings.own = allocation_named("search").run(*blocks.model, blocks.settings).sparsities;
  CHECK_NOTHROW(prune_model(*blocks.model, blocks.settings));

  Setup mixture("alps", 0.5, mixture_config());
  leave_experts_alone(*mixture.model);
  const Allotted found = allocation_named("search").run(*mixture.model, mixture.settings);
  CHECK(mixture.total(found.sparsities) == doctest::Approx(0.5).epsilon(1e-9));
  int alone = 0;
  for (const LayerSparsity& layer : found.sparsities)
    if (layer.name.find("experts.3.") != std::string::npos) ++alone, CHECK(layer.sparsity == doctest::Approx(0.5));
  CHECK((alone == 2 || *found.kl == *found.kl_uniform));

  Setup none("magnitude", 0);
  const Allotted nothing = allocation_named("search").run(*none.model, none.settings);
  CHECK_FALSE(nothing.kl.has_value());
  CHECK(spread_of(nothing.sparsities) == 0);
}

TEST_CASE("what cannot be is refused: unknown names, and inputs that are not numbers, whose block is named") {
  CHECK(failure([] { allocation_named("even"); }).starts_with("2 unknown allocation 'even'"));
  Setup setup("wanda", 0.5);
  Parameter& output = *weight_named(*setup.model, "blocks.0.attention.output.weight")->parameter();
  output.value.data<float>()[3] = INFINITY;
  ++output.version;
  for (const char* name : {"owl", "search"}) {
    const std::string text = failure([&] { allocation_named(name).run(*setup.model, setup.settings); });
    CAPTURE(text);
    CHECK(text.starts_with("3 "));
    CHECK(text.find("blocks.0") != std::string::npos);
  }
}
