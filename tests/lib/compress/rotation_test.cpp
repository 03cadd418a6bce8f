#include "compress/rotation.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "compress/correction.h"
#include "lib/compress/models.h"
#include "support/check.h"
#include "weights/dense_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

// Gains that are not 1 and biases that are not 0, so that one in a wrong place shows.
std::unique_ptr<Transformer> shaken(const Config& config) {
  struct Shaker : Visitor {
    Random random{3, "gains"};
    void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      if (info.role != Role::gain && info.role != Role::bias) return;
      for (float& x : parameter.value.span<float>()) x += 0.2f * static_cast<float>(random.normal());
    }
  } shaker;
  std::unique_ptr<Transformer> model = fresh(config);
  model->visit(shaker);
  return model;
}

Tensor all_logits(const Transformer& model) {
  const std::vector<int32_t> ids = some_ids(48);
  return model.logits(model.hidden(ids, model.call(Batch::whole(2, 24), DType::f32)).value());
}

Config like_gpt2() {
  Config c = small_config();
  c.block.norm = norm_named("layer_norm");
  c.block.activation = activation_named("gelu");
  c.block.positions = positions_named("learned");
  c.block.biases = true;
  return c;
}

Config gated_mixture() {
  Config c = mixture_config();
  c.layers[1].shared_gate = true;
  return c;
}

struct Shown {
  const char* name;
  Config config;
};

std::vector<Shown> all_kinds() {
  std::vector<Shown> all = {{"small", small_config()},
                            {"gpt2", like_gpt2()},
                            {"mixture", gated_mixture()},
                            {"biased mixture", gated_mixture()},
                            {"conv, untied", small_config()},
                            {"parallel", like_gpt2()},
                            {"biases of queries", small_config()},
                            {"halves", small_config()}};
  all[3].config.block.biases = true;
  all[3].config.block.norm = norm_named("layer_norm");
  set_attention(all[4].config, "conv:4,full");
  all[4].config.tied = false;
  all[5].config.block.parallel = true;
  all[6].config.block.qkv_biases = true;
  for (LayerBlueprint& layer : all[6].config.layers) layer.qk_norm = true;
  all[7].config.layers[0].ffn = 0;
  all[7].config.layers[1].heads = all[7].config.layers[1].kv_heads = 0;
  return all;
}

}  // namespace

TEST_CASE("axes of the stream are orthonormal, and along the first lies the most") {
  const auto model = shaken(small_config());
  const CalibrationText text = calibration_windows(8, 24);
  const Tensor axes = stream_axes(*model, text, DType::f32);
  REQUIRE(axes.shape() == Shape{48, 48});
  const auto at = [&](int64_t r, int64_t c) { return static_cast<double>(axes.data<float>()[r * 48 + c]); };
  for (int64_t a = 0; a < 48; a += 7)
    for (int64_t b = 0; b < 48; b += 5) {
      double dot = 0;
      for (int64_t r = 0; r < 48; ++r) dot += at(r, a) * at(r, b);
      CHECK(dot == doctest::Approx(a == b ? 1 : 0).epsilon(1e-5));
    }
  StreamWalk walk(*model, text, DType::f32);
  const Tensor rows = walk.normed(0, {NormOf::mixer, 0}, Norm::make(model->config().block));
  double first = 0, last = 0;
  for (int64_t t = 0; t < rows.dim(0); ++t) {
    double a = 0, b = 0;
    for (int64_t r = 0; r < 48; ++r) {
      a += static_cast<double>(rows.data<float>()[t * 48 + r]) * at(r, 0);
      b += static_cast<double>(rows.data<float>()[t * 48 + r]) * at(r, 47);
    }
    first += a * a;
    last += b * b;
  }
  CHECK(first > 2 * last);
}

TEST_CASE("along all axes a model of any kind has the logits that it had") {
  const CalibrationText text = calibration_windows(4, 24);
  for (const Shown& kind : all_kinds()) {
    CAPTURE(std::string(kind.name));
    const auto model = shaken(kind.config);
    RotatedModel rotated(*model, stream_axes(*model, text, DType::f32));
    const Config& config = rotated.model().config();
    CHECK(!config.tied);
    CHECK(config.block.norm == norm_named("rms_norm"));
    CHECK(config.layers == kind.config.layers);
    CHECK(relative_error(all_logits(rotated.model()), all_logits(*model)) < 1e-4);
  }
}

TEST_CASE("norms of fewer numbers divide by the root of what stays over all, and their epsilon weighs what it did") {
  Config config = small_config();
  config.block.norm_epsilon = 0.5f;  // of a size with the squares of the stream
  const auto model = shaken(config);
  // A model whose stream lies in 36 of 48 axes loses nothing with the others.
  struct Flattener : Visitor {
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      const bool table = info.role == Role::embedding;
      if (!table && !ends_branch(info.role)) return;
      const Tensor value = weight->to_dense().clone();
      for (int64_t r = 0; r < value.dim(0); ++r)
        for (int64_t c = 0; c < value.dim(1); ++c)
          if ((table ? c : r) >= 36) value.data<float>()[r * value.dim(1) + c] = 0;
      weight = std::make_shared<DenseWeight>(value);
    }
    void parameter(const ParameterInfo&, Parameter&) override {}
  } flattener;
  model->visit(flattener);
  const Tensor axes = stream_axes(*model, calibration_windows(8, 24), DType::f32);
  RotatedModel rotated(*model, first_columns(axes, 36));
  CHECK(rotated.model().config().block.dim == 36);
  CHECK(relative_error(all_logits(rotated.model()), all_logits(*model)) < 1e-4);
}

TEST_CASE("what cannot be rotated says so") {
  CHECK(!rotation_obstacle(like_gpt2()));
  Config config = small_config();
  config.layers[0].exit = true;
  CHECK(rotation_obstacle(config)->find("layer 0 has an exit") != std::string::npos);
  config = small_config();
  config.layers[1].depth_fraction = 0.5;
  CHECK(rotation_obstacle(config)->find("layer 1 lets only some tokens through") != std::string::npos);
  config = small_config();
  config.encoders = {"patches:4x4:GREY:8x8"};
  CHECK(rotation_obstacle(config)->find("encoders") != std::string::npos);
}

TEST_CASE("a correction finds what is lacking, leaves alone what lacks nothing, and tells what is left") {
  const Tensor x = random_tensor({600, 10}, 1), lacks = random_tensor({4, 10}, 2);
  const Tensor lacking = Tensor::empty({600, 4}), nothing = Tensor::zeros({600, 4});
  const Tensor noise = random_tensor({600, 4}, 3, 0.1f);
  for (int64_t t = 0; t < 600; ++t)
    for (int64_t r = 0; r < 4; ++r) {
      float sum = 2.0f + noise.data<float>()[t * 4 + r];
      for (int64_t c = 0; c < 10; ++c) sum += lacks.data<float>()[r * 10 + c] * x.data<float>()[t * 10 + c];
      lacking.data<float>()[t * 4 + r] = sum;
    }
  Correction none(10, 4, true), plain(10, 4, false), centred(10, 4, true);
  none.add(x.view(), nothing);
  plain.add(x.view(), lacking);
  centred.add(x.view(), lacking);
  const Correction::Found still = none.find("w"), without = plain.find("w"), with = centred.find("w");
  CHECK(still.after == 0);
  CHECK(std::ranges::all_of(still.matrix.span<float>(), [](float d) { return d == 0; }));
  CHECK(without.after < without.before);
  CHECK(with.after < 0.1 * without.after);
  CHECK(relative_error(with.matrix, lacks) < 0.05);
  for (const float d : with.constant.span<float>()) CHECK(std::abs(d - 2) < 0.05f);
  // What it tells is what is left.
  double left = 0;
  for (int64_t t = 0; t < 600; ++t)
    for (int64_t r = 0; r < 4; ++r) {
      double d = static_cast<double>(lacking.data<float>()[t * 4 + r]);
      for (int64_t c = 0; c < 10; ++c)
        d -= static_cast<double>(without.matrix.data<float>()[r * 10 + c]) *
             static_cast<double>(x.data<float>()[t * 10 + c]);
      left += d * d;
    }
  CHECK(without.after == doctest::Approx(left / 600).epsilon(1e-3));
}
