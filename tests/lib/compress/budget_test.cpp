#include "compress/budget.h"

#include <doctest/doctest.h>

#include <limits>

#include "compress/reference.h"
#include "lib/compress/models.h"

using namespace hone;
using namespace hone::test;

namespace {

std::vector<BudgetLayer> made_up(uint64_t seed, size_t layers, size_t candidates) {
  Random random(seed, "budget");
  std::vector<BudgetLayer> all(layers);
  for (BudgetLayer& layer : all)
    for (size_t k = 0; k < candidates; ++k) {
      TypeCandidate c;
      c.file_bytes = c.stored_bytes = 10 + static_cast<int64_t>(random.below(90));
      c.kl = static_cast<double>(random.below(1000)) / static_cast<double>(c.file_bytes);
      layer.candidates.push_back(c);
    }
  return all;
}

}  // namespace

TEST_CASE("the search finds what trying everything finds") {
  for (const uint64_t seed : {1, 2, 3, 4}) {
    const std::vector<BudgetLayer> layers = made_up(seed, 5, 4);
    for (const int64_t budget : {60, 120, 200, 350, 1000}) {
      double best = std::numeric_limits<double>::infinity();
      for (size_t code = 0; code < 1024; ++code) {
        std::vector<size_t> chosen;
        for (size_t i = 0, rest = code; i < 5; ++i, rest /= 4) chosen.push_back(rest % 4);
        if (bytes_of(layers, chosen, &TypeCandidate::file_bytes) <= budget)
          best = std::min(best, kl_of(layers, chosen));
      }
      const std::vector<size_t> found = best_types(layers, budget, &TypeCandidate::file_bytes);
      REQUIRE(found.empty() == !std::isfinite(best));
      if (found.empty()) continue;
      CHECK(bytes_of(layers, found, &TypeCandidate::file_bytes) <= budget);
      CHECK(kl_of(layers, found) == doctest::Approx(best));
    }
  }
}

TEST_CASE("what is expected of a choice is what the model then does, and nothing is changed by measuring") {
  const auto model = fresh();
  const auto before = weights_of(*model);
  const CalibrationText text = calibration_windows(8, 24);
  BudgetSettings settings;
  settings.quantize.calibration = settings.text = &text;
  const std::vector<BudgetLayer> layers = measure_types(*model, settings);
  CHECK(weights_of(*model) == before);
  REQUIRE(layers.size() == before.size());
  for (const BudgetLayer& layer : layers) {
    CHECK(layer.candidates.size() == 1 + 3 * (kernels::element_count - 1));
    CHECK(layer.measured_kl > 0);
  }
  const Reference reference(*model, text, DType::f32);
  const int64_t budget = 2 * least_bytes(layers, &TypeCandidate::stored_bytes);
  const std::vector<size_t> chosen = best_types(layers, budget, &TypeCandidate::stored_bytes);
  settings.quantize.layer_types = types_of(layers, chosen);
  const std::vector<QuantizedLayer> made = quantize_model(*model, settings.quantize);
  int64_t bytes = 0;
  for (const QuantizedLayer& layer : made) bytes += layer.bytes;
  CHECK(bytes == bytes_of(layers, chosen, &TypeCandidate::stored_bytes));
  CHECK(bytes <= budget);
  CHECK(reference.distance(*model).kl == doctest::Approx(kl_of(layers, chosen)).epsilon(0.5));
}

TEST_CASE("what prepares a model goes by the type that is nearest to the budget") {
  const auto model = fresh();
  BudgetSettings settings;
  for (const auto& [bits, name] : {std::pair(4.6, "int4"), std::pair(3.4, "int3"), std::pair(30.0, "int8")}) {
    settings.bits = bits;
    const std::vector<LayerType> types = typical_types(*model, settings);
    CHECK(types.size() == weights_of(*model).size());
    for (const LayerType& type : types) {
      CHECK(kernels::info_of(type.element).name == name);
      CHECK(type.group == 32);
    }
  }
}

TEST_CASE("the reference: a model is at no distance from itself") {
  const auto model = fresh();
  const CalibrationText text = calibration_windows(4, 24);
  const Reference reference(*model, text, DType::f32);
  const Distance d = reference.distance(*model), own = reference.own();
  CHECK(d.kl == 0);
  CHECK(d.agreement == 1);
  CHECK(d.loss > 0);
  CHECK(own.loss == d.loss);
  CHECK(own.accuracy == d.accuracy);
  CHECK(own.kl == 0);
}
