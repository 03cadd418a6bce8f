#include "compress/quantize.h"

#include <doctest/doctest.h>

#include <cmath>

#include "lib/compress/models.h"
#include "support/check.h"
#include "support/stopping.h"
#include "weights/dense_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

QuantizeSettings to(PackedType type, int64_t group = 0, const CalibrationText* text = nullptr) {
  QuantizeSettings settings;
  settings.type = settings.embedding = type;
  settings.group = group;
  settings.calibration = text;
  return settings;
}

bool is_of(const std::string& name, std::initializer_list<const char*> parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](const char* part) { return name.find(part) != std::string::npos; });
}

}  // namespace

TEST_CASE("every weight becomes one of its type near what it was; layers come in order, the embedding last") {
  for (const bool tied : {true, false}) {
    Config config = small_config();
    config.tied = tied;
    for (const auto& [type, most] : {std::pair{PackedType(int8), 0.01}, {int4, 0.15}, {bf16_element, 0.004}}) {
      CAPTURE(name_of(type));
      const auto model = fresh(config), before = fresh(config);
      const std::vector<QuantizedLayer> layers = quantize_model(*model, to(type, 32));
      REQUIRE(layers.size() == weight_slots(*model).size());
      CHECK(layers.front().name == "blocks.0.attention.qkv.weight");
      CHECK(layers.back().name == "embedding.weight");
      for (const QuantizedLayer& layer : layers) {
        CAPTURE(layer.name);
        const auto& weight = weight_named(*model, layer.name);
        CHECK(weight->element() == name_of(type));
        CHECK(layer.form == weight->form());
        CHECK(layer.bytes == weight->stored_bytes());
        CHECK(layer.bytes_before == 4 * weight->rows() * weight->cols());
        CHECK(layer.group == (has_scales(type) ? 32 : 0));
        CHECK_FALSE(layer.calibration_tokens.has_value());
        const Tensor now = weight->to_dense(), then = weight_named(*before, layer.name)->to_dense();
        CHECK(relative_error(now, then) < most);
        double error = 0, norm = 0;
        for (int64_t i = 0; i < now.size(); ++i) {
          error += std::pow(static_cast<double>(now.data<float>()[i] - then.data<float>()[i]), 2);
          norm += std::pow(static_cast<double>(then.data<float>()[i]), 2);
        }
        CHECK(layer.relative_error == doctest::Approx(error / norm).epsilon(1e-4));
      }
    }
  }
}

TEST_CASE("calibrated scales differ from data-free ones, and the embedding of an untied model has no inputs") {
  Config config = small_config();
  config.tied = false;
  const auto measured = fresh(config), blind = fresh(config);
  const CalibrationText text = calibration_windows(16, 32);
  quantize_model(*blind, to(int4, 32));
  for (const QuantizedLayer& layer : quantize_model(*measured, to(int4, 32, &text))) {
    CAPTURE(layer.name);
    const bool same =
        same_bytes(weight_named(*measured, layer.name)->to_dense(), weight_named(*blind, layer.name)->to_dense());
    CHECK(same == (layer.name == "embedding.weight"));
    CHECK(layer.calibration_tokens.value_or(-1) == (same ? -1 : 16 * 32));
    CHECK_FALSE(layer.data_free);
  }
}

TEST_CASE("down sees the rounded up: its scales are those of a model whose up was rounded before") {
  const CalibrationText text = calibration_windows(16, 32);
  const auto only = [&](const char* names) {
    QuantizeSettings settings = to(PackedType(), 32, &text);
    settings.overrides.emplace_back(names, int4);
    return settings;
  };
  const auto both = fresh(), before = fresh(), alone = fresh();
  const char *up = "blocks.1.feed_forward.gate_up.weight", *down = "blocks.1.feed_forward.down.weight";
  REQUIRE(quantize_model(*both, only("blocks.1.feed_forward")).size() == 2);
  weight_named(*before, up) = weight_named(*both, up);
  quantize_model(*before, only("blocks.1.feed_forward.down"));
  quantize_model(*alone, only("blocks.1.feed_forward.down"));
  const auto values = [&](Transformer& model) { return weight_named(model, down)->to_dense(); };
  CHECK(same_bytes(values(*both), values(*before)));
  CHECK_FALSE(same_bytes(values(*both), values(*alone)));
}

TEST_CASE("an expert without tokens is rounded data-free and says so") {
  const auto measured = fresh(mixture_config()), blind = fresh(mixture_config());
  leave_experts_alone(*measured);
  const CalibrationText text = calibration_windows(16, 32);
  quantize_model(*blind, to(int4, 32));
  for (const QuantizedLayer& layer : quantize_model(*measured, to(int4, 32, &text))) {
    CAPTURE(layer.name);
    const bool alone = is_of(layer.name, {"experts.2", "experts.3"});
    CHECK(layer.data_free == alone);
    CHECK(layer.calibration_tokens.value_or(-1) == (alone ? 0 : 16 * 32));
    CHECK(same_bytes(weight_named(*measured, layer.name)->to_dense(), weight_named(*blind, layer.name)->to_dense()) ==
          alone);
  }
}

TEST_CASE("the method decides the scales; types without scales are rounded to the nearest by either") {
  const auto searched = fresh(), reached = fresh();
  QuantizeSettings settings = to(int4, 32);
  settings.overrides.emplace_back("down", bf16_element);
  const std::vector<QuantizedLayer> fine = quantize_model(*searched, settings);
  settings.method = &round_method("rtn");
  const std::vector<QuantizedLayer> coarse = quantize_model(*reached, settings);
  for (size_t i = 0; i < fine.size(); ++i) {
    CAPTURE(fine[i].name);
    REQUIRE(fine[i].name == coarse[i].name);
    if (is_of(fine[i].name, {"down"}))
      CHECK(fine[i].relative_error == coarse[i].relative_error);
    else
      CHECK(fine[i].relative_error < coarse[i].relative_error);
  }
}

TEST_CASE("masks stay, and what they leave out does not come back") {
  const auto model = fresh();
  std::shared_ptr<Weight>& slot = weight_named(*model, "blocks.0.feed_forward.down.weight");
  const Bitmask mask = Bitmask::zeros(48, 96);
  std::fill_n(mask.data(), 24 * 12, uint8_t{0x55});
  slot = std::make_shared<DenseWeight>(slot->to_dense(), mask);
  QuantizeSettings settings = to(PackedType(), 32);
  settings.overrides.emplace_back("blocks.0.feed_forward.down", int4);
  quantize_model(*model, settings);
  CHECK(same_bytes(slot->mask(), mask));
  CHECK(slot->pruned() == 48 * 96 - 24 * 48);
  const Tensor values = slot->to_dense();
  for (int64_t i = 24 * 96; i < 48 * 96; ++i) CHECK(values.data<float>()[i] == 0);
}

TEST_CASE("what is refused leaves the model as it is") {
  const auto model = fresh();
  QuantizeSettings first = to(PackedType());
  first.overrides.emplace_back("blocks.1.feed_forward.down", int8);
  REQUIRE(quantize_model(*model, first).size() == 1);
  const std::vector<std::shared_ptr<Weight>> before = weights_of(*model);
  const auto refused = [&](const QuantizeSettings& settings) {
    const std::string text = failure([&] { quantize_model(*model, settings); });
    CHECK(weights_of(*model) == before);
    return text;
  };
  CHECK(refused(to(int4)).starts_with("2 'blocks.1.feed_forward.down.weight' is int8 already"));
  CHECK(refused(to(PackedType())) == "2 the options leave no weight to quantize");
  QuantizeSettings again = to(int4);
  again.allow_requantize = true;
  again.group = 48;
  CHECK(refused(again).starts_with("2 "));
  CalibrationText text = calibration_windows();
  text.ids[3] = -1;
  again.calibration = &text;
  again.group = 32;
  CHECK(refused(again).starts_with("3 the calibration text has token -1"));
  text.ids[3] = 0;
  {
    const Stopping stopping;
    CHECK_THROWS_AS(quantize_model(*model, again), Stopped);
  }
  CHECK(weights_of(*model) == before);
  CHECK(quantize_model(*model, again).size() == before.size());
}

TEST_CASE("weights and statistics that are not numbers are named") {
  const auto model = fresh();
  weight_named(*model, "blocks.1.attention.output.weight")->to_dense().data<float>()[3] = NAN;
  const CalibrationText text = calibration_windows();
  for (const CalibrationText* given : {static_cast<const CalibrationText*>(nullptr), &text}) {
    const std::string said = failure([&] {
      quantize_model(*model, [&] {
        QuantizeSettings settings = to(int4, 32, given);
        settings.allow_requantize = true;
        return settings;
      }());
    });
    CHECK(said.starts_with("3 "));
    CHECK(said.find("blocks.1.attention.output.weight") != std::string::npos);
  }
}
