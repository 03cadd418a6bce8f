// Inputs scaled before rounding: the model stays the same, and what rounding costs falls where inputs differ in size.
#include "compress/preparation.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "compress/quantize.h"
#include "lib/compress/models.h"
#include "support/check.h"
#include "weights/dense_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

const std::string qkv = "blocks.1.attention.qkv.weight", up = "blocks.0.feed_forward.gate_up.weight";

// A model with some inputs forty times as large as others.
std::unique_ptr<Transformer> uneven(const Config& config = small_config()) {
  auto model = fresh(config);
  for (Block& block : model->blocks())
    for (Norm* norm : {&block.mixer_norm, &block.feed_forward_norm})
      for (const int64_t j : {3, 17, 29}) norm->gain->value.data<float>()[j] = 40;
  return model;
}

std::vector<float> logits_of(const Transformer& model, const CalibrationText& text) {
  const NoTape pause;
  const Call call = model.call(Batch::whole(text.windows, text.length), DType::f32);
  const Tensor logits = model.logits(model.forward(text.ids, call).hidden.value());
  return {logits.data<float>(), logits.data<float>() + logits.size()};
}

double squared_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

std::vector<LayerType> all_as(Transformer& model, kernels::PackedElement element, int64_t group) {
  std::vector<LayerType> types;
  for (const WeightSlot& slot : weight_slots(model)) types.push_back({slot.name, element, group});
  return types;
}

std::map<std::string, double> awq(Transformer& model, const std::vector<LayerType>& layers,
                                  const CalibrationText& text) {
  return preparation("awq").run({model, layers, true, text, DType::f32});
}

std::map<std::string, double> smooth(Transformer& model, const std::vector<LayerType>& layers,
                                     const CalibrationText& text) {
  return preparation("smooth").run({model, layers, true, text, DType::f32});
}

}  // namespace

TEST_CASE("balancing inputs of a mixer that does not attend leaves what the model computes") {
  Config config = small_config();
  set_attention(config, "conv:4,full");
  const auto model = uneven(config);
  const CalibrationText text = calibration_windows();
  const std::vector<float> before = logits_of(*model, text);
  const auto exponents = awq(*model, all_as(*model, int4, 32), text);
  CHECK(exponents.size() == 4);
  CHECK(exponents.at("blocks.0.mixer.input.weight") > 0);
  double size = 0;
  for (const float x : before) size += x * x;
  CHECK(squared_distance(before, logits_of(*model, text)) < 1e-9 * size);
}

TEST_CASE("balancing inputs leaves what the model computes, and only layers that alone read a norm change") {
  const auto model = uneven();
  const CalibrationText text = calibration_windows();
  const std::vector<float> before = logits_of(*model, text);
  const Tensor weight = weight_named(*model, qkv)->to_dense();
  const Tensor gain = model->blocks()[1].mixer_norm.gain->value;
  const auto output = weight_named(*model, "blocks.1.attention.output.weight");

  const auto exponents = awq(*model, all_as(*model, int4, 32), text);
  CHECK(exponents.size() == 4);  // query/key/value and up of two blocks
  CHECK(exponents.at(qkv) > 0);
  CHECK(exponents.at(up) > 0);
  CHECK(weight_named(*model, "blocks.1.attention.output.weight") == output);

  const std::vector<float> after = logits_of(*model, text);
  double size = 0;
  for (const float x : before) size += x * x;
  CHECK(squared_distance(before, after) < 1e-9 * size);
  // Column by column: the weight times what the gain was divided by, larger where inputs are.
  const Tensor scaled = weight_named(*model, qkv)->to_dense();
  const Tensor divided = model->blocks()[1].mixer_norm.gain->value;
  double product = 0;
  for (int64_t j = 0; j < weight.dim(1); ++j) {
    const float s = gain.data<float>()[j] / divided.data<float>()[j];
    product += std::log(s);
    for (int64_t r = 0; r < weight.dim(0); ++r)
      CHECK(scaled.data<float>()[r * weight.dim(1) + j] ==
            doctest::Approx(weight.data<float>()[r * weight.dim(1) + j] * s).epsilon(1e-5));
  }
  CHECK(std::abs(product) < 1e-3);
  CHECK(gain.data<float>()[17] / divided.data<float>()[17] > 1.3 * gain.data<float>()[18] / divided.data<float>()[18]);
}

TEST_CASE("a model with uneven inputs loses less by rounding once they are balanced, pruned weights stay pruned") {
  const CalibrationText text = calibration_windows();
  const std::vector<float> exact = logits_of(*uneven(), text);
  const auto distance = [&](const char* method, bool balance) {
    const auto model = uneven();
    QuantizeSettings s;
    s.type = s.embedding = int4;
    s.embedding = PackedType();
    s.group = 32;
    s.method = &round_method(method);
    s.calibration = round_method(method).needs.empty() && !balance ? nullptr : &text;
    if (balance) s.prepare = {&preparation("awq")};
    for (const QuantizedLayer& layer : quantize_model(*model, s)) {
      const bool reads = layer.name.find("qkv") != std::string::npos || layer.name.find("up") != std::string::npos;
      CHECK(layer.prepared.contains("awq_exponent") == (balance && reads));
    }
    return squared_distance(exact, logits_of(*model, text));
  };
  CHECK(distance("rtn", true) < 0.8 * distance("rtn", false));

  // Of the first layer, whose inputs rounding has not touched yet.
  const auto error = [&](bool balance) {
    const auto model = uneven();
    QuantizeSettings s;
    s.type = int4;
    s.embedding = PackedType();
    s.group = 32;
    s.calibration = &text;
    if (balance) s.prepare = {&preparation("awq")};
    return quantize_model(*model, s).front().relative_error;
  };
  CHECK(error(true) < error(false));

  const auto model = uneven();
  Bitmask mask = Bitmask::zeros(weight_named(*model, qkv)->rows(), weight_named(*model, qkv)->cols());
  for (int64_t r = 0; r < mask.rows(); ++r)
    for (int64_t c = r % 2; c < mask.cols(); c += 2) mask.set(r, c);
  weight_named(*model, qkv) = std::make_shared<DenseWeight>(weight_named(*model, qkv)->to_dense(), mask);
  CHECK(awq(*model, all_as(*model, int4, 32), text).at(qkv) > 0);
  CHECK(same_bytes(weight_named(*model, qkv)->mask(), mask));
}

TEST_CASE("where several layers read a norm, or a type has no scales, nothing is balanced") {
  const CalibrationText text = calibration_windows();
  const auto mixture = uneven(mixture_config());
  CHECK(awq(*mixture, all_as(*mixture, int4, 32), text).size() == 3);
  const auto model = uneven();
  CHECK(awq(*model, all_as(*model, bf16_element, 0), text).empty());
  weight_named(*model, qkv)->parameter()->value.data<float>()[5] = NAN;
  CHECK(failure([&] { awq(*model, all_as(*model, int4, 32), text); }).starts_with("3 "));
}

TEST_CASE("smoothing leaves what the model computes, and changes layers that alone read a norm and become integers") {
  const CalibrationText text = calibration_windows();
  const auto model = uneven();
  const std::vector<float> before = logits_of(*model, text);
  const auto output = weight_named(*model, "blocks.1.attention.output.weight");
  const Tensor gain = model->blocks()[1].mixer_norm.gain->value;
  const auto alphas = smooth(*model, all_as(*model, int8, 0), text);
  CHECK(alphas.contains(qkv));
  CHECK(alphas.size() <= 4);  // query/key/value and up of two blocks, where it helps
  CHECK(weight_named(*model, "blocks.1.attention.output.weight") == output);
  for (const auto& [name, alpha] : alphas) CHECK((alpha >= 0 && alpha <= 1));
  double size = 0;
  for (const float x : before) size += x * x;
  CHECK(squared_distance(before, logits_of(*model, text)) < 1e-9 * size);
  // The norm gives less where it gave much.
  const Tensor divided = model->blocks()[1].mixer_norm.gain->value;
  CHECK(gain.data<float>()[17] / divided.data<float>()[17] > 1.3 * gain.data<float>()[18] / divided.data<float>()[18]);

  for (const char* element : {"bf16", "fp8"}) {
    const auto other = uneven();
    CHECK(smooth(*other, all_as(*other, *kernels::find_element(element), 0), text).empty());
  }
  const auto mixture = uneven(mixture_config());
  CHECK(smooth(*mixture, all_as(*mixture, int8, 0), text).size() <= 3);
}

TEST_CASE("activations of 8 bits cost a model with uneven inputs less once they are smoothed; pruned stays pruned") {
  const CalibrationText text = calibration_windows();
  const std::vector<float> exact = logits_of(*uneven(), text);
  const auto distance = [&](bool smoothed) {
    // The last layer that reads a norm alone: what is rounded before it moves sharp attention by more than it costs here.
    const std::string up = "blocks.1.feed_forward.gate_up.weight";
    const auto model = uneven();
    QuantizeSettings s;
    s.type = s.embedding = PackedType();
    s.layer_types = {{up, int8, 0}};
    s.calibration = &text;
    if (smoothed) s.prepare = {&preparation("smooth")};
    quantize_model(*model, s);
    weight_named(*model, up)->set_rounding({kernels::F32Activations::integers, 8});
    return squared_distance(exact, logits_of(*model, text));
  };
  CHECK(distance(true) < 0.8 * distance(false));

  const auto model = uneven();
  std::shared_ptr<Weight>& weight = weight_named(*model, qkv);
  const Bitmask mask = Bitmask::zeros(weight->rows(), weight->cols());
  for (int64_t r = 0; r < mask.rows(); ++r)
    for (int64_t c = r % 2; c < mask.cols(); c += 2) mask.set(r, c);
  weight = std::make_shared<DenseWeight>(weight->to_dense(), mask);
  CHECK(smooth(*model, all_as(*model, int8, 0), text).contains(qkv));
  CHECK(same_bytes(weight->mask(), mask));
  weight->parameter()->value.data<float>()[0] = NAN;
  CHECK(failure([&] { smooth(*model, all_as(*model, int8, 0), text); }).starts_with("3 "));
}
