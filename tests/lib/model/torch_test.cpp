// Whole models against PyTorch's logits, loss and gradients (tests/fixtures/make_fixtures.py).
#include <doctest/doctest.h>

#include "nn/attention/score.h"
#include "ops/mixture.h"
#include "support/check.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;

namespace {

Config config_of(const nlohmann::json& j) {
  Config c;
  c.vocabulary = c.padded_vocabulary = j.at("vocab").get<int64_t>();
  c.context = j.at("context").get<int64_t>();
  c.tied = j.at("tied").get<bool>();
  c.block.dim = j.at("dim").get<int64_t>();
  c.block.head_dim = j.at("head_dim").get<int64_t>();
  c.block.norm = j.at("norm") == "layer" ? norm_named("layer_norm") : norm_named("rms_norm");
  c.block.norm_epsilon = j.at("norm_eps").get<float>();
  c.block.activation = j.at("activation") == "swiglu" ? activation_named("swiglu") : activation_named("gelu");
  c.block.positions = j.at("positions") == "rope" ? positions_named("rotary") : positions_named("learned");
  c.block.biases = j.at("bias").get<bool>();
  c.layers.assign(j.at("layers").get<size_t>(),
                  {j.at("heads").get<int64_t>(), j.at("kv_heads").get<int64_t>(), j.at("ffn").get<int64_t>(), "full"});
  c.logit_softcap = j.value("logit_softcap", 0.0f);
  for (LayerBlueprint& layer : c.layers) {
    layer.qk_norm = j.value("qk_norm", false);
    if (j.contains("attention_softcap")) layer.score = softcap_score(j.at("attention_softcap").get<float>());
  }
  if (!j.contains("mixtures")) return c;
  for (size_t i = 0; i < c.layers.size(); ++i) {
    const nlohmann::json& m = j.at("mixtures").at(i);
    c.layers[i].experts = m.at("experts").get<int64_t>();
    c.layers[i].top_k = m.at("top_k").get<int64_t>();
    c.layers[i].shared_experts = m.at("shared_experts").get<int64_t>();
    c.layers[i].router = m.at("router") == "sigmoid" ? RouterKind::sigmoid : RouterKind::softmax;
  }
  return c;
}

class GradientChecker : public Visitor {
 public:
  GradientChecker(const Fixture& fixture, double tolerance) : fixture_(fixture), tolerance_(tolerance) {}
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    compare(info.name, *weight->parameter());
  }
  void parameter(const ParameterInfo& info, Parameter& parameter) override { compare(info.name, parameter); }
  int compared = 0;

 private:
  void compare(const std::string& name, const Parameter& parameter) {
    if (!parameter.trainable) return;
    CAPTURE(name);
    CHECK(relative_error(parameter.grad, fixture_.tensor("gradients/" + name)) < tolerance_);
    ++compared;
  }
  const Fixture& fixture_;
  double tolerance_;
};

void compare_with_torch(const std::string& name, DType type, double tolerance) {
  CAPTURE(name);
  const Fixture fixture(name);
  Transformer model(config_of(fixture.config()));
  FixtureLoader loader(fixture);
  model.visit(loader);
  const Tensor tokens = fixture.tensor("inputs/tokens"), targets = fixture.tensor("inputs/targets");
  Call call = model.call(Batch::whole(tokens.dim(0), tokens.dim(1)), type);
  CHECK(relative_error(model.logits(model.hidden(tokens.span<int32_t>(), call).value()), fixture.tensor("logits")) <
        tolerance);
  Tape tape;
  call.router.balance_weight = fixture.config().value("balance", 0.0);
  call.router.z_weight = fixture.config().value("z_loss", 0.0);
  const Transformer::Output out = model.forward(tokens.span<int32_t>(), call);
  std::vector<LossTerm> terms = out.terms;
  if (!terms.empty()) {
    float of_routers = 0;
    for (const LossTerm& term : terms) of_routers += term.value.value().data<float>()[0];
    CHECK(relative_error(Tensor::of({1}, {of_routers}), fixture.tensor("router_loss")) < tolerance);
  }
  const float z_loss = fixture.config().value("head_z_loss", 0.0f);
  const ops::TokenLosses losses = model.loss(out.hidden, targets.span<int32_t>(), {1, z_loss, {}});
  terms.push_back(losses.term);
  CHECK(relative_error(terms.back().value.value(), fixture.tensor("loss").reshape({1})) < tolerance);
  if (z_loss > 0) CHECK(relative_error(losses.z_term.value.value(), fixture.tensor("z")) < tolerance);
  tape.backward(terms);
  GradientChecker checker(fixture, tolerance);
  model.visit(checker);
  CHECK(checker.compared == static_cast<int>(fixture.names("gradients/").size()));
}

}  // namespace

TEST_CASE("logits, loss and all gradients equal PyTorch's, f32") {
  at_every_isa([] {
    compare_with_torch("llama", DType::f32, 1e-4);
    compare_with_torch("gpt2", DType::f32, 1e-4);
    compare_with_torch("experts", DType::f32, 1e-4);
    compare_with_torch("capped", DType::f32, 1e-4);
  });
}

TEST_CASE("bf16 activations stay near them") {
  at_every_isa([] {
    compare_with_torch("llama", DType::bf16, 0.05);
    compare_with_torch("gpt2", DType::bf16, 0.05);
    // A cap keeps logits of up to 14.6 below 3, and leaves the errors of small ones as they are: beside the largest
    // these are up to 4.9 times what they are in the models above.
    compare_with_torch("capped", DType::bf16, 0.08);
  });
}
