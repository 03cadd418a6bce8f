// Linear layers, norms and dense feed-forwards against plain references, and
// what they show to a visitor.
#include <doctest/doctest.h>

#include "lib/nn/plain.h"
#include "nn/feed_forward.h"
#include "nn/rope.h"

using namespace hone;
using namespace hone::test;

namespace {

struct Seen : Visitor {
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    add(info, {weight->rows(), weight->cols()});
  }
  void parameter(const ParameterInfo& info, Parameter& parameter) override { add(info, parameter.value.shape()); }
  void add(const ParameterInfo& info, const Shape& shape) {
    names.push_back(info.name + " " + to_string(shape));
    infos.push_back(info);
  }
  std::vector<std::string> names;
  std::vector<ParameterInfo> infos;
};

struct Counter : InputObserver {
  void observe(const Weight& weight, kernels::ConstView x) override { seen.push_back({weight.rows(), x.rows, x.cols}); }
  std::vector<std::array<int64_t, 3>> seen;
};

BlockBlueprint blueprint(NormKind norm, ActivationKind activation, bool biases) {
  BlockBlueprint b;
  b.dim = 24;
  b.head_dim = 8;
  b.norm = norm;
  b.activation = activation;
  b.biases = biases;
  return b;
}

}  // namespace

TEST_CASE("a linear layer is x W^T, and its bias is added") {
  for (const bool biases : {false, true}) {
    Linear layer = Linear::make(10, 24, biases);
    CHECK(!layer.bias == !biases);
    const Named p = Parameters::randomize(layer, "l", 1);
    CHECK(p.size() == (biases ? 2 : 1));
    const Tensor x = random_tensor({5, 24}, 9);
    const Plain expected = plain_linear(p, "l", Plain(x));
    CHECK(plain_error(layer.forward(Var(x), {}).value(), expected) < 1e-5);
    const Tensor rounded = x.to(DType::bf16);
    const Var y = layer.forward(Var(rounded), {});
    CHECK(y.value().dtype() == DType::bf16);
    CHECK(plain_error(y.value(), plain_linear(p, "l", Plain(rounded))) < 0.02);
  }
}

TEST_CASE("what enters linear layers is seen where a call asks for it") {
  DenseFeedForward layer(blueprint(norm_named("rms_norm"), activation_named("swiglu"), false), 16);
  Parameters::randomize(layer, "f", 1);
  Counter counter;
  Call call;
  layer.forward(Var(random_tensor({3, 24}, 1)), call, 0);
  CHECK(counter.seen.empty());
  call.trace.inputs = &counter;
  layer.forward(Var(random_tensor({3, 24}, 1)), call, 0);
  CHECK(counter.seen == std::vector<std::array<int64_t, 3>>{{32, 3, 24}, {24, 3, 16}});
}

TEST_CASE(
    "a norm adds the branch, then normalizes; gains begin at 1 and "
    "biases at 0") {
  for (size_t row = 0; row < std::size(norm_kinds); ++row)
    for (const bool biases : {false, true}) {
      CAPTURE(std::string(norm_kinds[row].name));
      const auto kind = static_cast<NormKind>(row);
      Norm norm = Norm::make(blueprint(kind, activation_named("swiglu"), biases));
      norm.epsilon = 0.1f;  // large enough to matter
      for (const float g : norm.gain->value.span<float>()) CHECK(g == 1.0f);
      CHECK(!norm.bias == !biases);
      if (biases)
        for (const float b : norm.bias->value.span<float>()) CHECK(b == 0.0f);
      const Named p = Parameters::randomize(norm, "n", 4);
      const Tensor residual = random_tensor({6, 24}, 2), branch = random_tensor({6, 24}, 3);
      const ops::Normed alone = norm.forward(Var(residual.clone()), Var(), DType::f32);
      CHECK(plain_error(alone.y.value(), plain_norm(p, "n", Plain(residual), kind, 0.1f)) < 1e-5);
      CHECK(relative_error(alone.residual.value(), residual) == 0.0);
      const ops::Normed both = norm.forward(Var(residual.clone()), Var(branch), DType::f32);
      const Plain sum = plain_add(Plain(residual), Plain(branch));
      CHECK(plain_error(both.residual.value(), sum) < 1e-6);
      CHECK(plain_error(both.y.value(), plain_norm(p, "n", sum, kind, 0.1f)) < 1e-5);
      const ops::Normed rounded = norm.forward(Var(residual.clone()), Var(branch.to(DType::bf16)), DType::bf16);
      CHECK(rounded.y.value().dtype() == DType::bf16);
      CHECK(rounded.residual.value().dtype() == DType::f32);  // the stream stays f32
      CHECK(plain_error(rounded.y.value(), plain_norm(p, "n", sum, kind, 0.1f)) < 0.02);
    }
}

TEST_CASE("dense feed-forwards equal plain ones, with and without gates and biases") {
  for (size_t row = 0; row < std::size(activation_kinds); ++row)
    for (const bool biases : {false, true}) {
      CAPTURE(std::string(activation_kinds[row].name));
      const auto kind = static_cast<ActivationKind>(row);
      DenseFeedForward layer(blueprint(norm_named("rms_norm"), kind, biases), 40);
      const Named p = Parameters::randomize(layer, "f", 1);
      const Tensor x = random_tensor({7, 24}, 5);
      const FeedForwardOutput out = layer.forward(Var(x), {}, 0);
      CHECK(out.terms.empty());
      CHECK(plain_error(out.y.value(), plain_feed_forward(p, "f", Plain(x), kind)) < 1e-5);
    }
}

TEST_CASE("each activation is as wide as its row says, and its gradient is that of its function") {
  for (const ActivationInfo& row : activation_kinds) {
    CAPTURE(std::string(row.name));
    const Tensor x = random_tensor({3, 14}, 1);
    const Var input(x, true);
    CHECK(row.function(input).shape() == Shape{3, row.gated ? 7 : 14});
    check_gradients([&] { return row.function(input); }, {x}, [&](size_t) { return input.take_grad(); }, 2e-3);
  }
}

TEST_CASE("rotary frequencies: part of a head, and scaled") {
  BlockBlueprint b;
  b.head_dim = 8;
  b.rotary_dim = 4;
  const std::vector<double> part = rope_frequencies(b);
  CHECK(part == std::vector<double>{1, 0.01, 0, 0});
  b.rotary_dim = 0;
  b.rope_scaling = {RopeScaling::Kind::linear, 4};
  CHECK(rope_frequencies(b)[1] == doctest::Approx(0.1 / 4));
  // Waves of 2 pi, 63, 628 and 6283 tokens: 1304, 130, 13.0 and 1.30 of them in 8192. Between 1 and 4 it goes over.
  b.rope_scaling = {RopeScaling::Kind::llama3, 8, 1, 4, 8192};
  const std::vector<double> f = rope_frequencies(b);
  CHECK(f[2] == 0.01);
  const double smooth = (8192 * 0.001 / 6.283185307179586 - 1) / 3;
  CHECK(f[3] == doctest::Approx((1 - smooth) * 0.001 / 8 + smooth * 0.001));
  b.rope_scaling.context = 512;  // 0.08 waves
  CHECK(rope_frequencies(b)[3] == doctest::Approx(0.001 / 8));
}

TEST_CASE("modules show each parameter with its path, shape and role") {
  DenseFeedForward gated(blueprint(norm_named("rms_norm"), activation_named("swiglu"), false), 16);
  Seen of_gated;
  gated.visit(Place{"blocks.3.feed_forward", 3}, of_gated);
  CHECK(of_gated.names == std::vector<std::string>{"blocks.3.feed_forward.gate_up.weight [32, 24]",
                                                   "blocks.3.feed_forward.down.weight [24, 16]"});
  CHECK(of_gated.infos[0].role == Role::up);
  CHECK(of_gated.infos[0].gated);
  CHECK(of_gated.infos[1].role == Role::down);
  CHECK(!of_gated.infos[1].gated);
  CHECK(of_gated.infos[1].layer == 3);
  CHECK(of_gated.infos[1].expert == -1);

  DenseFeedForward plain(blueprint(norm_named("layer_norm"), activation_named("gelu"), true), 16);
  Seen of_plain;
  plain.visit(Place{"f"}, of_plain);
  CHECK(of_plain.names == std::vector<std::string>{"f.up.weight [16, 24]", "f.up.bias [16]", "f.down.weight [24, 16]",
                                                   "f.down.bias [24]"});
  CHECK(of_plain.infos[1].role == Role::bias);
  CHECK(of_plain.infos[1].of == Role::up);
  CHECK(of_plain.infos[3].of == Role::down);

  Norm norm = Norm::make(blueprint(norm_named("layer_norm"), activation_named("gelu"), true));
  Seen of_norm;
  norm.visit(Place{"n"}, NormOf::exit, of_norm);
  CHECK(of_norm.names == std::vector<std::string>{"n.gain [24]", "n.bias [24]"});
  CHECK(of_norm.infos[0].role == Role::gain);
  CHECK(of_norm.infos[1].role == Role::bias);
  for (const ParameterInfo& info : of_norm.infos) CHECK(info.norm == NormOf::exit);

  const ParameterInfo of_expert = Place{"blocks.11.feed_forward", 11}.in_expert(1).in("up").info("weight", Role::up);
  CHECK(of_expert.expert == 1);
  CHECK(of_expert.name == "blocks.11.feed_forward.experts.1.up.weight");
  CHECK(of_expert.name_of_expert("*") == "blocks.11.feed_forward.experts.*.up.weight");
  CHECK_THROWS_AS(of_norm.infos[0].name_of_expert("*"), Error);
}
