// The choice of 8-bit activations for each matrix: what it costs stays within the bound, and the model says it.
#include "compress/activations.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "compress/quantize.h"
#include "lib/compress/models.h"

using namespace hone;
using namespace hone::test;

namespace {

struct Quantized {
  std::unique_ptr<Transformer> model;
  std::vector<std::string> names;
};

Quantized quantized_as(PackedType type, const Config& config = small_config()) {
  Quantized result{fresh(config), {}};
  QuantizeSettings s;
  s.type = s.embedding = type;
  for (const QuantizedLayer& layer : quantize_model(*result.model, s)) result.names.push_back(layer.name);
  return result;
}

ActivationChoice choose(const Quantized& of, const CalibrationText& text, double bound) {
  ActivationSettings s;
  s.text = &text;
  s.max_loss_increase = bound;
  return choose_activations(*of.model, of.names, s);
}

int64_t of_8_bits(const ActivationChoice& choice) {
  return std::ranges::count_if(choice.layers, [](const ActivationLayer& layer) { return layer.bits == 8; });
}

}  // namespace

TEST_CASE("no more than the bound is lost by 8-bit activations, and each matrix says what it takes") {
  const CalibrationText text = calibration_windows(8, 32);
  const Quantized all = quantized_as(int8);
  const ActivationChoice everything = choose(all, text, 1);
  const auto count = static_cast<int64_t>(everything.layers.size());
  CHECK(count == 9);  // the head is the embedding
  CHECK(of_8_bits(everything) == count);
  CHECK(everything.after.kl > 0);
  for (const ActivationLayer& layer : everything.layers) {
    CHECK(layer.kl > 0);
    CHECK(layer.kl < 4 * everything.after.kl);
  }
  for (const double part : {0.0, 0.1, 0.5, 0.9}) {
    CAPTURE(part);
    const Quantized some = quantized_as(int8);
    const Reference exact(*some.model, text, DType::f32);
    const double bound = part * everything.after.kl / everything.before.loss;
    const ActivationChoice choice = choose(some, text, bound);
    CHECK(of_8_bits(choice) < count);
    if (part == 0) CHECK(of_8_bits(choice) == 0);
    CHECK(choice.before.loss == everything.before.loss);
    const Distance after = exact.distance(*some.model);
    CHECK(after.kl == choice.after.kl);
    CHECK(after.loss == choice.after.loss);
    CHECK(after.kl <= bound * choice.before.loss);
    CHECK(after.loss - choice.before.loss <= bound * choice.before.loss);
    for (const ActivationLayer& layer : choice.layers) {
      const Weight& weight = *weight_named(*some.model, layer.name);
      CHECK(weight.activation_bits() == layer.bits);
      CHECK(weight.encode().attributes.at(activation_bits_attribute) == layer.bits);
      CHECK(layer.elements == weight.rows() * weight.cols());
    }
  }
}

TEST_CASE("only matrices of integers that a product reads have activations to choose") {
  Config untied = small_config();
  untied.tied = false;
  const Quantized integers = quantized_as(int4, untied), halves = quantized_as(bf16_element, untied);
  const std::vector<std::string> layers = activation_layers(*integers.model, integers.names);
  CHECK(layers.size() + 1 == integers.names.size());
  CHECK(std::ranges::find(layers, "embedding.weight") == layers.end());
  CHECK(std::ranges::find(layers, "head.weight") != layers.end());
  CHECK(activation_layers(*halves.model, halves.names).empty());
}

TEST_CASE("a loss that is not a number is refused") {
  const Quantized model = quantized_as(int8);
  const CalibrationText text = calibration_windows();
  model.model->blocks()[0].mixer_norm.gain->value.data<float>()[0] = NAN;
  CHECK(failure([&] { choose(model, text, 1); }).starts_with("3 "));
}
