// Scales trained after rounding, and weights rounded while a model trains.
#include "compress/distill.h"

#include <doctest/doctest.h>

#include "compress/masks.h"
#include "compress/quantize.h"
#include "compress/quantize_aware.h"
#include "compress/reference.h"
#include "lib/compress/models.h"
#include "support/check.h"
#include "weights/computed_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

QuantizeSettings to(const char* element, const CalibrationText* text = nullptr) {
  QuantizeSettings settings;
  settings.type = settings.embedding = *kernels::find_element(element);
  settings.group = 32;
  settings.calibration = text;
  return settings;
}

Tensor integers_of(Transformer& model, const std::string& name) {
  return unpack_integers(*weight_named(model, name)).integers;
}

constexpr const char* qkv = "blocks.0.attention.qkv.weight";

}  // namespace

TEST_CASE("distilled scales bring the predictions nearer to the parent's; integers, embedding and forms stay") {
  for (const bool tied : {true, false}) {
    CAPTURE(tied);
    Config config = small_config();
    config.tied = tied;
    const auto parent = fresh(config), model = fresh(config);
    const CalibrationText text = calibration_windows(32, 16);
    quantize_model(*model, to("int2"));
    const Tensor integers = integers_of(*model, qkv), embedding = weight_named(*model, "embedding.weight")->to_dense();
    const Reference reference(*parent, text, DType::f32);
    const double before = reference.distance(*model).kl;
    DistillSettings s;
    s.steps = 40;
    s.learning_rate = 0.01;
    const Distilled result = distill(*model, *parent, text, s);
    CHECK(result.before > result.after);
    CHECK(reference.distance(*model).kl < 0.8 * before);
    CHECK(std::ranges::equal(integers_of(*model, qkv).span<int8_t>(), integers.span<int8_t>()));
    CHECK(relative_error(weight_named(*model, "embedding.weight")->to_dense(), embedding) == 0);
    CHECK(weight_named(*model, qkv)->element() == "int2");
    CHECK(weight_named(*model, qkv)->form() == "panels");
    // The same once more: nothing of it is by chance.
    const auto again = fresh(config);
    quantize_model(*again, to("int2"));
    distill(*again, *parent, text, s);
    CHECK(relative_error(weight_named(*again, qkv)->to_dense(), weight_named(*model, qkv)->to_dense()) == 0);
  }
}

TEST_CASE("distilling keeps masks, activation bits and mixtures, and refuses a model without scales") {
  const auto parent = fresh(mixture_config()), model = fresh(mixture_config());
  const auto pruned = std::make_shared<DenseWeight>(weight_named(*model, qkv)->to_dense(), [&] {
    const auto& weight = *weight_named(*model, qkv);
    Bitmask mask = Bitmask::ones(weight.rows(), weight.cols());
    for (int64_t r = 0; r < weight.rows(); ++r) mask.row(r)[0] = 0;
    return mask;
  }());
  weight_named(*model, qkv) = pruned;
  quantize_model(*model, to("int4"));
  weight_named(*model, qkv) = with_activation_bits(*weight_named(*model, qkv), 8);
  const CalibrationText text = calibration_windows(8, 16);
  DistillSettings s;
  s.steps = 3;
  const Distilled result = distill(*model, *parent, text, s);
  CHECK(result.scales > 0);
  CHECK(weight_named(*model, qkv)->activation_bits() == 8);
  CHECK(weight_named(*model, qkv)->pruned() == pruned->pruned());
  const auto plain = fresh();
  CHECK_THROWS_AS(distill(*plain, *fresh(), text, s), Error);
  CHECK(weight_named(*plain, qkv)->trainable());
}

TEST_CASE(
    "training through rounding: products of what quantizing would leave, from a step on; what is left loses nothing") {
  const std::vector<int32_t> ids = some_ids(32);
  for (const char* element : {"int4", "ternary"}) {
    CAPTURE(element);
    const auto model = fresh(), rounded = fresh();
    const auto hidden = [&](const Transformer& of) {
      return of.hidden(ids, of.call(Batch::whole(2, 16), DType::f32)).value();
    };
    const Tensor before = hidden(*model);
    QuantizeSettings settings = to(element);
    settings.embedding = std::nullopt;
    quantize_model(*rounded, settings);
    QuantizeAware aware(*model, {*kernels::find_element(element), 32, 0.5, 10});
    CHECK(aware.begins() == 5);
    aware.before_step(4);
    CHECK(relative_error(hidden(*model), before) == 0);
    aware.before_step(5);
    CHECK(relative_error(hidden(*model), hidden(*rounded)) < 1e-4);
    // Gradients of all masters exist, as of an ordinary model.
    {
      Tape tape;
      const auto loss = model->loss(model->hidden(ids, model->call(Batch::whole(2, 16), DType::f32)), ids);
      tape.backward(std::span(&loss.term, 1));
    }
    CHECK(weight_named(*model, qkv)->parameter()->has_grad);
    aware.finish();
    CHECK(weight_named(*model, qkv)->form() == "dense");
    CHECK(relative_error(hidden(*model), hidden(*rounded)) < 1e-4);
    const Tensor values = weight_named(*model, qkv)->to_dense();
    quantize_model(*model, settings);
    CHECK(relative_error(weight_named(*model, qkv)->to_dense(), values) < 1e-6);
  }
  CHECK_THROWS_AS(QuantizeAware(*fresh(), {*kernels::find_element("bf16"), 0, 0, 10}), Error);
}
