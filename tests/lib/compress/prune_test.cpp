#include "compress/prune.h"

#include <doctest/doctest.h>

#include <cmath>

#include "compress/masks.h"
#include "compress/quantize.h"
#include "lib/compress/models.h"
#include "support/masks.h"
#include "support/stopping.h"

using namespace hone;
using namespace hone::test;

namespace {

struct Setup {
  explicit Setup(const char* method, double sparsity, const char* kind = "unstructured")
      : pattern(parse_pattern(kind)), text(calibration_windows(16, 32)) {
    settings.method = &prune_method(method);
    settings.pattern = pattern.get();
    settings.sparsity = sparsity;
    settings.rule = {std::regex("^blocks"), std::regex("^$")};
    if (settings.method->needs_calibration()) settings.calibration = &text;
  }
  std::shared_ptr<const Pattern> pattern;
  CalibrationText text;
  PruneSettings settings;
};

std::vector<PrunedLayer> prune(Transformer& model, const char* method, double sparsity) {
  return prune_model(model, Setup(method, sparsity).settings);
}

bool same_masks(Transformer& a, Transformer& b) {
  const std::vector<WeightSlot> x = weight_slots(a), y = weight_slots(b);
  for (size_t i = 0; i < x.size(); ++i) {
    const Bitmask one = (*x[i].weight)->mask(), other = (*y[i].weight)->mask();
    if (static_cast<bool>(one) != static_cast<bool>(other) || (one && !same_bytes(one, other))) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("chosen weights are pruned, what is left keeps its value, and layers come back in the order of the model") {
  for (const char* method : {"magnitude", "wanda"}) {
    const auto model = fresh(mixture_config()), before = fresh(mixture_config());
    const std::vector<PrunedLayer> layers = prune(*model, method, 0.5);
    const std::vector<WeightSlot> now = weight_slots(*model), then = weight_slots(*before);
    REQUIRE(layers.size() + 1 == now.size());
    CHECK_FALSE((*now[0].weight)->mask());  // the embedding
    for (size_t i = 0; i < layers.size(); ++i) {
      CAPTURE(layers[i].name);
      const WeightSlot& slot = now[i + 1];
      CHECK(slot.name == layers[i].name);
      const Tensor values = (*slot.weight)->to_dense(), whole = (*then[i + 1].weight)->to_dense();
      const Tensor kept = expand_mask((*slot.weight)->mask());
      double sum = 0, all = 0;
      for (int64_t j = 0; j < values.size(); ++j) {
        const float w = whole.data<float>()[j];
        CHECK(values.data<float>()[j] == (kept.data<uint8_t>()[j] ? w : 0.0f));
        all += static_cast<double>(std::fabs(w));
        if (kept.data<uint8_t>()[j]) sum += static_cast<double>(std::fabs(w));
      }
      CHECK(layers[i].sparsity == 0.5);
      CHECK(layers[i].sparsity_before == 0);
      CHECK(layers[i].calibration_tokens.has_value() == (method == std::string("wanda")));
      if (method == std::string("magnitude")) CHECK(layers[i].score_kept == doctest::Approx(sum / all));
      CHECK(layers[i].score_kept > 0.5);
      CHECK(layers[i].score_kept < 1);
    }
  }
}

TEST_CASE("wanda sees a block as it was: pruning up before down changes nothing for down") {
  const auto both = fresh(), alone = fresh();
  Setup setup("wanda", 0.5);
  setup.settings.rule.targets = std::regex("blocks.1.feed_forward");
  prune_model(*both, setup.settings);
  setup.settings.rule.targets = std::regex("blocks.1.feed_forward.down");
  prune_model(*alone, setup.settings);
  const char* down = "blocks.1.feed_forward.down.weight";
  CHECK(same_bytes(weight_named(*both, down)->mask(), weight_named(*alone, down)->mask()));
  // A block that was pruned before is another one.
  const auto after = fresh();
  setup.settings.rule.targets = std::regex("blocks.0|blocks.1.feed_forward.down");
  prune_model(*after, setup.settings);
  CHECK_FALSE(same_bytes(weight_named(*after, down)->mask(), weight_named(*alone, down)->mask()));
}

TEST_CASE("a method may ask for the Gram matrix and change the weights that stay, each layer behind those before it") {
  // Where only the last input of each layer is kept, it takes over for the others what it tells of them: the best a
  // single column can do in least squares, sum_j w_j G_jk / G_kk.
  const PruneMethod last_column = {
      "last", "", {StatisticKind::of<GramMatrix>()}, MeasuredBehind::layers, [](const WeightToPrune& what) {
        const Tensor& gram = what.inputs->get<GramMatrix>().sums();
        const int64_t rows = what.weight.dim(0), cols = what.weight.dim(1), k = cols - 1;
        Tensor weight = Tensor::zeros({rows, cols}), kept = Tensor::zeros({rows, cols}, DType::u8);
        const float* g = gram.data<float>() + k * cols;
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t j = 0; j < cols; ++j)
            weight.data<float>()[r * cols + k] += what.weight.data<float>()[r * cols + j] * g[j] / g[k];
          kept.data<uint8_t>()[r * cols + k] = 1;
        }
        return PrunedWeight{weight, pack_mask(kept), what.weight};
      }};
  const auto model = fresh(), dense = fresh();
  Setup setup("magnitude", 0.5);
  setup.settings.method = &last_column;
  setup.settings.calibration = &setup.text;
  for (const PrunedLayer& layer : prune_model(*model, setup.settings)) {
    CAPTURE(layer.name);
    CHECK(layer.calibration_tokens == 16 * 32);
    CHECK(weight_named(*model, layer.name)->pruned() == layer.rows * (layer.cols - 1));
  }
  // The squared error of the first layer's outputs, sum of e G e over its rows: less than without the update.
  const CalibrationTarget first[] = {{"blocks.0.attention.qkv.weight", {StatisticKind::of<GramMatrix>()}}};
  const Tensor whole = weight_named(*dense, first[0].name)->to_dense(),
               updated = weight_named(*model, first[0].name)->to_dense();
  calibrate(*dense, first, MeasuredBehind::layers, &setup.text, DType::f32, [&](size_t, const Measurement& measured) {
    const float* g = measured.inputs->get<GramMatrix>().sums().data<float>();
    const int64_t rows = whole.dim(0), cols = whole.dim(1);
    const auto error = [&](auto&& value) {
      double sum = 0;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < cols; ++i)
          for (int64_t j = 0; j < cols; ++j)
            sum += static_cast<double>(whole.data<float>()[r * cols + i] - value(r, i)) *
                   static_cast<double>(g[i * cols + j]) *
                   static_cast<double>(whole.data<float>()[r * cols + j] - value(r, j));
      return sum;
    };
    const auto at = [&](const Tensor& w, int64_t r, int64_t c) { return w.data<float>()[r * cols + c]; };
    const double masked = error([&](int64_t r, int64_t c) { return c + 1 == cols ? at(whole, r, c) : 0; });
    CHECK(error([&](int64_t r, int64_t c) { return at(updated, r, c); }) < 0.999 * masked);
  });
}

TEST_CASE("an embedding that is chosen is pruned, also where it is not the head and nothing is multiplied with it") {
  for (const bool tied : {true, false}) {
    Config config = small_config();
    config.tied = tied;
    for (const char* method : {"magnitude", "wanda"}) {
      const auto model = fresh(config);
      Setup setup(method, 0.5);
      setup.settings.rule.targets = std::regex(".");
      const std::vector<PrunedLayer> layers = prune_model(*model, setup.settings);
      CHECK(layers.size() == weight_slots(*model).size());
      CHECK(layers.back().name == "embedding.weight");
      CHECK(layers.back().calibration_tokens.has_value() == (tied && method == std::string("wanda")));
      CHECK(model->embedding()->pruned() == 50 * 48 / 2);
    }
  }
}

TEST_CASE("the zeros of an earlier mask stay, and a lower sparsity brings nothing back") {
  const auto model = fresh(), once = fresh();
  prune(*once, "magnitude", 0.4);
  prune(*model, "magnitude", 0.4);
  const std::vector<PrunedLayer> layers = prune(*model, "wanda", 0.7);
  for (const PrunedLayer& layer : layers) {
    CAPTURE(layer.name);
    CHECK(layer.sparsity_before == doctest::Approx(0.4).epsilon(1e-3));
    CHECK(layer.sparsity == doctest::Approx(0.7).epsilon(1e-3));
    const Bitmask now = weight_named(*model, layer.name)->mask(), before = weight_named(*once, layer.name)->mask();
    CHECK(within(now, before));
  }
  prune(*once, "magnitude", 0.1);
  const auto reference = fresh();
  prune(*reference, "magnitude", 0.4);
  CHECK(same_masks(*once, *reference));
}

TEST_CASE("wanda's masks differ from data-free ones, and follow the text") {
  const auto measured = fresh(), other = fresh(), blind = fresh();
  prune(*measured, "wanda", 0.5);
  Setup setup("wanda", 0.5);
  std::reverse(setup.text.ids.begin(), setup.text.ids.end());
  for (int32_t& id : setup.text.ids) id = id % 5;
  prune_model(*other, setup.settings);
  for (const WeightSlot& slot : weight_slots(*blind)) {
    if (!is_linear(slot.role)) continue;
    const auto pattern = parse_pattern("unstructured");
    const Bitmask mask =
        prune_method("wanda").run({slot.name, (*slot.weight)->to_dense(), {}, nullptr, *pattern, 0.5}).mask;
    (*slot.weight)->set_mask(mask);
    CHECK_FALSE(same_bytes(mask, weight_named(*measured, slot.name)->mask()));
  }
  CHECK_FALSE(same_masks(*measured, *other));
  const auto again = fresh();
  prune(*again, "wanda", 0.5);
  CHECK(same_masks(*measured, *again));
}

TEST_CASE("an expert without tokens is scored data-free and says so") {
  const auto model = fresh(mixture_config()), whole = fresh(mixture_config());
  leave_experts_alone(*model);
  for (const PrunedLayer& layer : prune(*model, "wanda", 0.5)) {
    CAPTURE(layer.name);
    const bool alone =
        layer.name.find("experts.2") != std::string::npos || layer.name.find("experts.3") != std::string::npos;
    CHECK(layer.data_free == alone);
    CHECK(layer.calibration_tokens.value_or(-1) == (alone ? 0 : 16 * 32));
    const Tensor dense = weight_named(*whole, layer.name)->to_dense();
    const auto pattern = parse_pattern("unstructured");
    const Bitmask blind = prune_method("wanda").run({layer.name, dense, {}, nullptr, *pattern, 0.5}).mask;
    CHECK(same_bytes(weight_named(*model, layer.name)->mask(), blind) == alone);
  }
}

TEST_CASE("what is refused leaves the model as it is") {
  const auto model = fresh();
  const std::vector<std::shared_ptr<Weight>> before = weights_of(*model);
  const auto refused = [&](const PruneSettings& settings) {
    const std::string listed = failure([&] { weights_to_prune(*model, settings); });
    const std::string text = failure([&] { prune_model(*model, settings); });
    CHECK(listed == text);
    CHECK(weights_of(*model) == before);
    return text;
  };
  Setup nothing("magnitude", 0.5);
  nothing.settings.rule.targets = std::regex("nothing");
  CHECK(refused(nothing.settings).find("embedding.weight, blocks.0.attention.qkv.weight") != std::string::npos);
  Setup wide("magnitude", 0.5, "block:64x16");  // of 128 rows in the first block and 96 in the second
  wide.settings.rule.targets = std::regex("qkv");
  CHECK(refused(wide.settings).starts_with("2 blocks.1.attention.qkv.weight: "));
  Setup blind("wanda", 0.5);
  blind.settings.calibration = nullptr;
  CHECK(refused(blind.settings).starts_with("2 method wanda "));

  Setup foreign("wanda", 0.5);
  foreign.text.ids[7] = 50;
  CHECK(failure([&] { prune_model(*model, foreign.settings); }).starts_with("3 "));
  CHECK(weights_of(*model) == before);
  {
    const Stopping stopping;
    CHECK_THROWS_AS(prune(*model, "wanda", 0.5), Stopped);
  }
  CHECK(weights_of(*model) == before);
}

TEST_CASE("weights that are not numbers are named; a quantized weight is refused") {
  const auto model = fresh();
  weight_named(*model, "blocks.1.feed_forward.down.weight")->to_dense().data<float>()[3] = NAN;
  for (const char* method : {"magnitude", "wanda"}) {
    const std::string text = failure([&] { prune(*model, method, 0.5); });
    CHECK(text.starts_with("3 "));
    CHECK(text.find("blocks.1.feed_forward.down.weight") != std::string::npos);
  }
  const auto packed = fresh();
  QuantizeSettings settings;
  settings.overrides.emplace_back("blocks.1", PackedType());
  quantize_model(*packed, settings);
  const std::vector<std::shared_ptr<Weight>> before = weights_of(*packed);
  CHECK(failure([&] { prune(*packed, "magnitude", 0.5); }).starts_with("2 'blocks.0.attention.qkv.weight' is a "));
  CHECK(weights_of(*packed) == before);
}
