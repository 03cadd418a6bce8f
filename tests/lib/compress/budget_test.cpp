#include "compress/budget.h"

#include <doctest/doctest.h>

#include <limits>

#include "base/error.h"
#include "compress/reference.h"
#include "lib/compress/models.h"
#include "weights/dense_weight.h"

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

// A model of whose blocks' weights most are next to nothing, and a search of types and sparsities for it.
struct Pairs {
  std::unique_ptr<Transformer> model;
  CalibrationText text = calibration_windows(8, 24);
  std::shared_ptr<const Pattern> pattern = parse_pattern("unstructured");
  BudgetSettings settings;

  explicit Pairs(const char* method = "alps", const Config& config = small_config()) : model(fresh(config)) {
    Random random(7, "next to nothing");
    for (const WeightSlot& slot : weight_slots(*model)) {
      if (!slot.name.starts_with("blocks.")) continue;
      const Tensor values = (*slot.weight)->to_dense().clone();
      for (int64_t i = 0; i < values.size(); ++i)
        if (random.below(5) > 0) values.data<float>()[i] *= 0.003f;
      *slot.weight = std::make_shared<DenseWeight>(values);
    }
    PruneSettings prune;
    prune.method = &prune_method(method);
    prune.pattern = pattern.get();
    prune.rule = {std::regex(weights_of_blocks), std::regex("^$")};
    prune.update = true;
    settings.quantize.method = &round_method("gptq");
    settings.quantize.calibration = settings.text = &text;
    settings.quantize.prune = prune;
    settings.groups = {32};
    settings.elements = {int8, int4};
    settings.sparsities = {0, 0.5, 0.75};
    settings.bits = 3;
  }

  std::vector<QuantizedLayer> make(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen) {
    QuantizeSettings quantize = settings.quantize;
    quantize.layer_types = types_of(layers, chosen);
    return quantize_model(*model, quantize);
  }
};

constexpr Bytes product_bytes = &TypeCandidate::stored_bytes;

int64_t bytes_made(const std::vector<QuantizedLayer>& layers) {
  int64_t bytes = 0;
  for (const QuantizedLayer& layer : layers) bytes += layer.bytes;
  return bytes;
}

}  // namespace

TEST_CASE("a divergence that is no number is refused with its weight, and not summed up") {
  for (const double kl : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    std::vector<BudgetLayer> layers = made_up(1, 3, 4);
    for (size_t i = 0; i < 3; ++i) layers[i].name = std::string(1, static_cast<char>('a' + i));
    for (TypeCandidate& c : layers[1].candidates) c.kl = kl;
    try {
      best_types(layers, 1000, &TypeCandidate::file_bytes);
      FAIL("types were found");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
      CHECK(std::string(error.what()).find("'b'") != std::string::npos);
    }
  }
}

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

TEST_CASE("types and sparsities together lose less than types alone where most weights are next to nothing") {
  for (const char* method : {"alps", "sparsegpt", "magnitude"}) {
    INFO(method);
    Pairs pairs(method), alone;
    const auto before = weights_of(*pairs.model);
    const std::vector<BudgetLayer> layers = measure_types(*pairs.model, pairs.settings);
    CHECK(weights_of(*pairs.model) == before);
    const TypesAlone types = types_alone(layers);
    CHECK(least_bytes(layers, product_bytes) < least_bytes(types.layers, product_bytes));
    const int64_t budget = least_bytes(types.layers, product_bytes) * 21 / 20;
    const std::vector<size_t> best = best_types(layers, budget, product_bytes);
    const std::vector<size_t> best_alone = types.among_all(best_types(types.layers, budget, product_bytes));
    CHECK(bytes_of(layers, best, product_bytes) <= budget);
    CHECK(bytes_of(layers, best_alone, product_bytes) <= budget);
    CHECK(kl_of(layers, best) < 0.5 * kl_of(layers, best_alone));
    const Reference reference(*pairs.model, pairs.text, DType::f32);
    const std::vector<QuantizedLayer> made = pairs.make(layers, best), made_alone = alone.make(layers, best_alone);
    CHECK(reference.distance(*pairs.model).kl < 0.5 * reference.distance(*alone.model).kl);
    // Of types the bytes are exact, of masks but for the last byte of a tile.
    CHECK(bytes_made(made_alone) == bytes_of(layers, best_alone, product_bytes));
    CHECK(static_cast<double>(bytes_made(made)) ==
          doctest::Approx(static_cast<double>(bytes_of(layers, best, product_bytes))).epsilon(0.02));
    REQUIRE(made.size() == layers.size());
    for (size_t i = 0; i < made.size(); ++i) {
      const TypeCandidate& c = layers[i].candidates[best[i]];
      CHECK(made[i].name == layers[i].name);
      CHECK((made[i].type == c.element));
      CHECK(made[i].sparsity >= c.sparsity);
      CHECK(weight_named(*pairs.model, made[i].name)->pruned() ==
            (c.sparsity > 0 ? pruned_of(layers[i].elements, c.sparsity) : 0));
    }
  }
}

TEST_CASE("no choice of types and sparsities is over its budget, and a larger one is never worse") {
  Pairs pairs;
  pairs.settings.elements = {kernels::all_elements.begin(), kernels::all_elements.end()};
  const std::vector<BudgetLayer> layers = measure_types(*pairs.model, pairs.settings);
  const int64_t least = least_bytes(layers, product_bytes);
  CHECK(best_types(layers, least - 1, product_bytes).empty());
  double before = std::numeric_limits<double>::infinity();
  for (const int64_t budget : {least, least + 100, least * 5 / 4, 2 * least, 4 * least, 20 * least}) {
    const std::vector<size_t> best = best_types(layers, budget, product_bytes);
    REQUIRE(best.size() == layers.size());
    CHECK(bytes_of(layers, best, product_bytes) <= budget);
    CHECK(kl_of(layers, best) <= before);
    before = kl_of(layers, best);
  }
}

TEST_CASE("what is pruned more is a candidate where it takes fewer bytes, and only of blocks") {
  Pairs pairs;
  pairs.settings.elements = {int8, kernels::element_named("int2")};
  for (const BudgetLayer& layer : measure_types(*pairs.model, pairs.settings)) {
    INFO(layer.name);
    // Half of int2 pruned takes as much for its mask.
    const size_t expected = layer.name.starts_with("blocks.") ? 5 : 2;
    CHECK(layer.candidates.size() == expected);
    for (const TypeCandidate& c : layer.candidates) {
      for (const TypeCandidate& other : layer.candidates)
        if (other.element == c.element && other.sparsity < c.sparsity) {
          CHECK(c.file_bytes < other.file_bytes);
          CHECK(c.stored_bytes < other.stored_bytes);
        }
      CHECK(c.relative_error > 0);
      CHECK(c.relative_error < 1.5);
    }
  }
}

TEST_CASE("a weight keeps the mask that it has, at least") {
  Pairs pairs;
  const std::string name = "blocks.0.feed_forward.down.weight";
  std::shared_ptr<Weight>& weight = weight_named(*pairs.model, name);
  PruneSettings prune = *pairs.settings.quantize.prune;
  prune.method = &prune_method("magnitude");
  prune.sparsity = 0.6;
  prune_weight(name, weight, prune, {});
  const Bitmask mask = weight->mask();
  const std::vector<BudgetLayer> layers = measure_types(*pairs.model, pairs.settings);
  for (const bool most : {false, true}) {
    std::vector<size_t> chosen;
    for (const BudgetLayer& layer : layers) {
      const auto sparser = [](const TypeCandidate& a, const TypeCandidate& b) { return a.sparsity < b.sparsity; };
      const auto ends = std::minmax_element(layer.candidates.begin(), layer.candidates.end(), sparser);
      chosen.push_back(static_cast<size_t>((most ? ends.second : ends.first) - layer.candidates.begin()));
      if (layer.name != name) continue;
      CHECK(layer.sparsity == mask.sparsity());
      CHECK(layer.candidates.size() == 4);  // as it is, and 0.75
      CHECK(ends.second->sparsity == 0.75);
    }
    Pairs fresh_pairs;
    weight_named(*fresh_pairs.model, name) = weight;
    fresh_pairs.make(layers, chosen);
    const Bitmask made = weight_named(*fresh_pairs.model, name)->mask();
    CHECK(made.sparsity() >= (most ? 0.75 : mask.sparsity()));
    for (int64_t r = 0; r < mask.rows(); ++r)
      for (int64_t c = 0; c < mask.cols(); ++c) REQUIRE((mask.at(r, c) || !made.at(r, c)));
  }
}

TEST_CASE("experts that few tokens enter are searched, too") {
  Pairs pairs("alps", mixture_config());
  leave_experts_alone(*pairs.model);
  const std::vector<BudgetLayer> layers = measure_types(*pairs.model, pairs.settings);
  const std::vector<size_t> best = best_types(layers, least_bytes(layers, product_bytes) * 5 / 4, product_bytes);
  const std::vector<QuantizedLayer> made = pairs.make(layers, best);
  CHECK(made.size() == layers.size());
  CHECK(std::any_of(made.begin(), made.end(), [](const QuantizedLayer& l) { return l.data_free; }));
}

TEST_CASE("one type for all is at the sparsity that is nearest from below") {
  BudgetLayer layer;
  for (const double sparsity : {0.0, 0.5, 0.8})
    for (const int64_t group : {32, 64}) layer.candidates.push_back({int4, group, 1, 1, 1, 1, sparsity});
  const auto at = [&](int64_t group, double sparsity) { return uniform_types({layer}, int4, group, sparsity).front(); };
  CHECK(at(32, 0) == 0);
  CHECK(at(64, 0) == 1);
  CHECK(at(32, 0.5) == 2);
  CHECK(at(64, 0.7) == 3);
  CHECK(at(32, 1) == 4);
  layer.candidates.erase(layer.candidates.begin(), layer.candidates.begin() + 2);
  CHECK(at(32, 0) == 0);  // none is so dense
  CHECK(types_alone({layer}).layers.empty());
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
