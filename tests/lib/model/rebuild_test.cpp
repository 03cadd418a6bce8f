#include "model/rebuild.h"

#include <doctest/doctest.h>

#include "base/error.h"
#include "model/session.h"
#include "support/check.h"
#include "support/models.h"
#include "weights/dense_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

Config mixed_config() {
  Config config = small_config();
  config.block.biases = true;
  config.layers[1].experts = 3;
  config.layers[1].top_k = 1;
  config.layers[1].shared_experts = 2;
  config.layers[1].shared_gate = true;
  config.layers[1].qk_norm = true;
  config.layers[1].score = "softcap:3";
  return config;
}

std::unique_ptr<Transformer> fresh(const Config& config) {
  auto model = std::make_unique<Transformer>(config);
  initialize(*model, 1, 0.2);
  // Biases that are not 0, so that a wrong slice of one shows.
  struct Filler : Visitor {
    void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      if (info.role != Role::bias) return;
      Random random(3, info.name);
      for (float& x : parameter.value.span<float>()) x = static_cast<float>(0.2 * random.normal());
    }
  } filler;
  model->visit(filler);
  return model;
}

Tensor hidden_of(const Transformer& model, int64_t rows = 24) {
  return model.hidden(some_ids(rows), model.call(Batch::whole(1, rows), DType::f32)).value();
}

// Sets what enters the residual stream from these columns of a matrix to 0.
void silence(Transformer& model, const std::string& name, const std::vector<int64_t>& columns) {
  struct Silencer : Visitor {
    std::string name;
    const std::vector<int64_t>* columns = nullptr;
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (info.name != name) return;
      const Tensor t = weight->to_dense().clone();
      for (int64_t r = 0; r < t.dim(0); ++r)
        for (const int64_t c : *columns) t.data<float>()[r * t.dim(1) + c] = 0;
      weight = std::make_shared<DenseWeight>(t);
    }
    void parameter(const ParameterInfo&, Parameter&) override {}
  } silencer;
  silencer.name = name;
  silencer.columns = &columns;
  model.visit(silencer);
}

std::vector<int64_t> range(int64_t begin, int64_t end) {
  std::vector<int64_t> all;
  for (int64_t i = begin; i < end; ++i) all.push_back(i);
  return all;
}

}  // namespace

TEST_CASE("what keeps everything is the same model") {
  const auto model = fresh(mixed_config());
  const auto same = keep_layers(*model, whole_layers(model->config()));
  CHECK(same->config() == model->config());
  CHECK(relative_error(hidden_of(*same), hidden_of(*model)) == 0);
}

TEST_CASE("a model without silent heads and units computes what it computed with them") {
  const auto model = fresh(mixed_config());
  const int64_t width = model->config().block.head_dim;
  // Layer 0: the first group of two heads, and units 5 to 20. Layer 1: head 1, and of each expert four units.
  silence(*model, "blocks.0.attention.output.weight", range(0, 2 * width));
  silence(*model, "blocks.0.feed_forward.down.weight", range(5, 21));
  silence(*model, "blocks.1.attention.output.weight", range(width, 2 * width));
  for (const int64_t e : {0, 1, 2})
    silence(*model, fmt::format("blocks.1.feed_forward.experts.{}.down.weight", e), range(4 * e, 4 * e + 4));
  silence(*model, "blocks.1.feed_forward.shared.down.weight", range(60, 68));
  std::vector<KeptLayer> kept = whole_layers(model->config());
  kept[0].heads = {2, 3};
  kept[0].kv_heads = {1};
  std::erase_if(kept[0].units[0], [](int64_t u) { return u >= 5 && u < 21; });
  kept[1].heads = kept[1].kv_heads = {0};
  for (const int64_t e : {0, 1, 2})
    std::erase_if(kept[1].units[static_cast<size_t>(e)], [e](int64_t u) { return u >= 4 * e && u < 4 * e + 4; });
  std::erase_if(kept[1].units.back(), [](int64_t u) { return u >= 60 && u < 68; });
  const auto small = keep_layers(*model, kept);
  CHECK(small->config().layers[0] == LayerBlueprint{2, 1, 80, "full"});
  CHECK(small->config().layers[1].ffn == 60);
  CHECK(relative_error(hidden_of(*small), hidden_of(*model)) < 1e-5);
}

TEST_CASE("heads that a score tells apart stay together") {
  Config config = small_config();
  for (LayerBlueprint& layer : config.layers) layer.score = "alibi";
  std::vector<KeptLayer> kept = whole_layers(config);
  CHECK(kept_config(config, kept) == config);
  kept[0].heads = {2, 3};
  kept[0].kv_heads = {1};
  CHECK_THROWS_AS(kept_config(config, kept), Error);
  kept[0].heads = kept[0].kv_heads = {};
  CHECK(kept_config(config, kept).layers[0].heads == 0);
}

TEST_CASE("channels of a mixer that does not attend go by heads, too") {
  Config config = small_config();
  config.block.biases = true;
  set_attention(config, "conv:3,full");
  const auto model = fresh(config);
  const int64_t head_dim = config.block.head_dim;
  silence(*model, "blocks.0.mixer.output.weight", range(head_dim, 2 * head_dim));
  std::vector<KeptLayer> kept = whole_layers(config);
  CHECK(relative_error(hidden_of(*keep_layers(*model, kept)), hidden_of(*model)) == 0);
  kept[0].heads = kept[0].kv_heads = {0, 2, 3};
  const auto small = keep_layers(*model, kept);
  CHECK(small->config().layers[0] == LayerBlueprint{3, 3, 96, "conv:3"});
  CHECK(relative_error(hidden_of(*small), hidden_of(*model)) < 1e-5);
  kept[0].heads = kept[0].kv_heads = {0, 1, 2};  // another head is missed
  CHECK(relative_error(hidden_of(*keep_layers(*model, kept)), hidden_of(*model)) > 1e-3);
}

TEST_CASE("masks are sliced with their weights, and quantized ones are refused") {
  const auto model = fresh(small_config());
  struct Masker : Visitor {
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (info.role != Role::down) return;
      const Bitmask mask = Bitmask::zeros(weight->rows(), weight->cols());
      for (int64_t r = 0; r < mask.rows(); ++r)
        for (int64_t c = r % 3; c < mask.cols(); c += 3) mask.set(r, c);
      weight->set_mask(mask);
    }
    void parameter(const ParameterInfo&, Parameter&) override {}
  } masker;
  model->visit(masker);
  std::vector<KeptLayer> kept = whole_layers(model->config());
  kept[0].units[0] = {1, 2, 40, 95};
  const auto small = keep_layers(*model, kept);
  struct Checker : Reader {
    void weight(const ParameterInfo& info, const Weight& weight) override {
      if (info.name != "blocks.0.feed_forward.down.weight") return;
      REQUIRE(weight.form() == "masked");
      const std::vector<int64_t> from = {1, 2, 40, 95};
      for (int64_t r = 0; r < weight.rows(); ++r)
        for (int64_t c = 0; c < 4; ++c) CHECK(weight.mask().at(r, c) == (from[static_cast<size_t>(c)] % 3 == r % 3));
      ++seen;
    }
    void parameter(const ParameterInfo&, const Parameter&) override {}
    int seen = 0;
  } checker;
  small->visit(checker);
  CHECK(checker.seen == 1);
}

TEST_CASE("layers without one of their halves run everywhere: whole, in pieces, and backwards") {
  const auto model = fresh(mixed_config());
  std::vector<KeptLayer> kept = whole_layers(model->config());
  kept[0].units.clear();
  kept[1].heads.clear();
  kept[1].kv_heads.clear();
  const auto small = keep_layers(*model, kept);
  const Config& config = small->config();
  CHECK(config_from_json(to_json(config), "test") == config);
  // By hand: the first layer's attention, then the second's mixture.
  const Call call = small->call(Batch::whole(1, 24), DType::f32);
  Stream stream = model->embed(some_ids(24), call);
  stream = model->blocks()[0].mix(stream, call, 0, nullptr);
  stream = model->blocks()[1].feed(stream, call, 1);
  CHECK(relative_error(hidden_of(*small), model->finish(stream, call).value()) == 0);
  Session session(*small, {1, 24, DType::f32});
  CHECK(relative_error(session.hidden(some_ids(24), 5), hidden_of(*small)) < 1e-4);
  session.truncate(0, 3);
  CHECK(session.length() == 3);
  // The same gradients with and without running blocks again.
  const auto gradients = [&](const char* plan) {
    Tape tape;
    Call training = small->call(Batch::whole(1, 24), DType::f32);
    training.recompute = recompute_plan(plan);
    const Var hidden = small->hidden(some_ids(24), training);
    const std::vector<int32_t> targets = some_ids(24);
    const ops::TokenLosses losses = small->loss(hidden, targets);
    tape.backward(std::span(&losses.term, 1));
    Tensor g = small->embedding()->parameter()->grad.clone();
    small->embedding()->parameter()->has_grad = false;
    return g;
  };
  const Tensor expected = gradients("none");
  for (const char* plan : {"blocks", "every:2", "attention", "feed_forward"}) {
    CAPTURE(plan);
    CHECK(relative_error(gradients(plan), expected) < 1e-6);
  }
}

TEST_CASE("a layer without both halves is no layer") {
  Config config = small_config();
  config.layers[0].heads = config.layers[0].kv_heads = 0;
  CHECK_NOTHROW(check(config));
  config.layers[0].ffn = 0;
  CHECK_THROWS_WITH_AS(check(config), "layer 0 has neither attention nor a feed-forward", Error);
}
