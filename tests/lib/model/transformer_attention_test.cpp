#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "lib/model/passes.h"
#include "model/transformer.h"
#include "nn/attention/pattern.h"
#include "ops/divergence.h"
#include "support/check.h"
#include "support/mixers.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;

TEST_CASE("every kind of attention: a cache gives what one pass gives") {
  at_every_isa([] {
    for (const std::string& kind : causal_mixers()) {
      CAPTURE(kind);
      Transformer model(attending(kind + ",full"));
      initialize(model, 3);
      const std::vector<int32_t> ids = some_ids(2 * 270);
      const Tensor expected = in_one_pass(model, ids, 2, DType::f32);
      CHECK(relative_error(in_pieces(model, ids, 2, std::vector<int64_t>(270, 1), DType::f32), expected) < 1e-4);
      CHECK(relative_error(in_pieces(model, ids, 2, {100, 1, 9, 3, 64, 1, 1, 64, 27}, DType::f32), expected) < 1e-4);
      CHECK(relative_error(in_pieces(model, ids, 2, {5, 1, 33, 231}, DType::f32), expected) < 1e-4);
      const Tensor rounded = in_one_pass(model, ids, 2, DType::bf16);
      CHECK(relative_error(rounded, expected) < 0.3);
    }
  });
}

TEST_CASE("every kind of attention: sequences of a batch do not touch each other, later tokens not earlier ones") {
  for (const std::string& kind : causal_mixers()) {
    CAPTURE(kind);
    Transformer model(attending(kind));
    initialize(model, 4);
    std::vector<int32_t> ids = some_ids(2 * 200);
    const Tensor both = in_one_pass(model, ids, 2, DType::f32);
    const std::vector<int32_t> second(ids.begin() + 200, ids.end());
    CHECK(relative_error(in_one_pass(model, second, 1, DType::f32), both.rows(200, 200)) < 1e-5);
    ids[150] = (ids[150] + 1) % 50;
    const Tensor after = in_one_pass(model, ids, 2, DType::f32);
    CHECK(relative_error(after.rows(0, 150), both.rows(0, 150)) == 0.0);
    CHECK(relative_error(after.rows(150, 50), both.rows(150, 50)) > 1e-3);
  }
}

TEST_CASE("caches are as large as their kind needs, and one that fits no memory is refused") {
  Config config = small_config();
  config.context = 4096;
  const auto bytes = [&](const char* kinds, int64_t capacity) {
    set_attention(config, kinds);
    return Transformer(config).make_state({1, capacity, DType::bf16}).bytes();
  };
  const int64_t a_token = 2 * 2 * 2 * 16 * 2;  // keys and values of two layers with two heads of 16 each, in bf16
  CHECK(bytes("full", 4096) == 4096 * a_token);
  CHECK(bytes("window:512", 4096) == 512 * a_token);
  CHECK(bytes("window:512", 1 << 20) == 512 * a_token);
  CHECK(bytes("window:512:4", 4096) == 516 * a_token);
  CHECK(bytes("window:512,full", 4096) == (512 + 4096) * a_token / 2);
  CHECK(bytes("window:512", 100) == 100 * a_token);
  CHECK(bytes("routed:64:4", 4096) == 4096 * a_token + 2 * 64 * 2 * 16 * 3 * 4);
  set_attention(config, "full");
  CHECK_THROWS_AS(Transformer(config).make_state({1, int64_t{1} << 40, DType::bf16}), Error);
  set_attention(config, "window:64");
  CHECK_NOTHROW(Transformer(config).make_state({1, int64_t{1} << 40, DType::bf16}));
}

namespace {

// Of an encoder: every token sees all of them.
struct BothWays : Mixer {
  Var forward(const Var& x, const Call&, int64_t, LayerState*) const override { return x; }
  std::unique_ptr<LayerState> make_state(const StateShape&) const override { return std::make_unique<NoState>(); }
  void configure(const LayerBlueprint&) override {}
  void visit(const Place&, Visitor&) override {}
  bool causal() const override { return false; }
  double flops(int64_t) const override { return 0; }
  double state_bytes_read(int64_t, DType, kernels::CacheCode) const override { return 0; }
  double state_bytes(const StateShape&) const override { return 0; }
  MixerArrays training_arrays() const override { return {}; }
};

}  // namespace

TEST_CASE("a layer that sees what follows runs, and is refused where the next token is predicted") {
  Transformer model(small_config());
  initialize(model, 3);
  CHECK_NOTHROW(model.require_causal());
  model.blocks()[1].mixer = std::make_unique<BothWays>();
  const std::vector<int32_t> ids = some_ids(20);
  const NoTape pause;
  const Var hidden = model.hidden(ids, model.call(Batch::whole(1, 20), DType::f32));
  CHECK(hidden.shape()[0] == 20);
  const auto refused = [&](auto&& what) {
    try {
      what();
      FAIL("nothing was thrown");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::usage);
      CHECK(std::string(error.what()).find("layer 1 is 'full', which shows tokens what follows") == 0);
    }
  };
  refused([&] { model.require_causal(); });
  refused([&] { model.make_state({1, 20, DType::f32}); });
  refused([&] { model.logits(hidden.value()); });
  refused([&] { model.loss(hidden, ids); });
}

TEST_CASE("a meter tells which part of the pairs was visible, in one pass and through a cache") {
  for (const std::string& kind : attention_examples()) {
    CAPTURE(kind);
    Transformer model(attending(kind));
    initialize(model, 5);
    AttentionMeter whole, pieces;
    const std::vector<int32_t> ids = some_ids(260);
    Call call = model.call(Batch::whole(1, 260), DType::f32);
    call.trace.attention = &whole;
    model.hidden(ids, call);
    State state = model.make_state({1, 260, DType::f32});
    for (int64_t begin : {0, 130}) {
      Call part = model.call(Batch({{0, begin, 130}}), DType::f32);
      part.trace.attention = &pieces;
      model.hidden(std::span(ids).subspan(static_cast<size_t>(begin), 130), part, &state);
    }
    const int64_t heads = 4 + 2;
    CHECK(whole.causal_pairs == heads * 260 * 261 / 2);
    CHECK(pieces.causal_pairs == whole.causal_pairs);
    CHECK(pieces.visible_pairs == whole.visible_pairs);
    int64_t most = 0;
    for (int64_t p = 0; p < 260; ++p) most += heads * attention_pattern(kind)->visible_keys(p);
    CHECK(whole.visible_pairs <= most);
    CHECK(whole.visible_pairs > most * 9 / 10);
    CHECK((whole.fraction() == 1.0) == (kind == "full"));
    CHECK(whole.seconds > 0);
  }
}

TEST_CASE("kinds of attention repeat over the layers, and those that cannot be are refused with what there is") {
  Config config = small_config();
  config.layers.assign(5, config.layers.front());
  set_attention(config, "window:64,window:64,full");
  CHECK(config.layers[2].attention == "full");
  CHECK(config.layers[3].attention == "window:64");
  CHECK(attention_of(config) == "window:64,window:64,full");
  set_attention(config, "full");
  CHECK(attention_of(config) == "full");
  const auto message = [&](const std::string& kinds) -> std::string {
    try {
      Config changed = config;
      set_attention(changed, kinds);
      check(changed);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::usage);
      return error.what();
    }
    return "accepted";
  };
  CHECK(message("round").find("full, window:SIZE[:SINKS], routed:BLOCK:COUNT[:WINDOW]") != std::string::npos);
  CHECK(message("full,full,full,full,full,full").find("6 kinds for 5 layers") != std::string::npos);
  for (const char* bad : {"",
                          "full,",
                          "full:1",
                          "window",
                          "window:",
                          "window:0",
                          "window:-1",
                          "window:x",
                          "window:9:9:9",
                          "window:97",
                          "window:8:97",
                          "window:99999999999",
                          "routed:64",
                          "routed:0:1",
                          "routed:32:1",
                          "routed:64:0",
                          "routed:64:3",
                          "routed:128:1",
                          "routed:64:2:0",
                          "routed:64:2:97"})
    CHECK_MESSAGE(message(bad) != "accepted", bad);
  CHECK(message("window:96:2,routed:64:2:96") == "accepted");
}

TEST_CASE("another kind of attention keeps the parameters") {
  Config config = small_config();
  Transformer model(config);
  initialize(model, 6);
  const std::vector<int32_t> ids = some_ids(90);
  const Tensor full = in_one_pass(model, ids, 1, DType::f32);
  model.set_attention("window:16");
  CHECK(attention_of(model.config()) == "window:16");
  const Tensor window = in_one_pass(model, ids, 1, DType::f32);
  CHECK(relative_error(window.rows(0, 16), full.rows(0, 16)) < 1e-6);
  CHECK(relative_error(window.rows(60, 30), full.rows(60, 30)) > 1e-3);
  model.set_attention("full");
  CHECK(relative_error(in_one_pass(model, ids, 1, DType::f32), full) == 0.0);
  CHECK_THROWS_AS(model.set_attention("window:200"), Error);
  CHECK_NOTHROW(model.set_attention("window:200", 4096));
}

TEST_CASE("layers that do not attend have nothing of attention, and stay what they are") {
  Config config = small_config();
  for (LayerBlueprint& layer : config.layers) {
    layer.qk_norm = true;
    layer.score = "softcap:3";
  }
  set_attention(config, "conv:4,full");
  CHECK(config.layers[0] == LayerBlueprint{4, 4, 96, "conv:4"});
  CHECK(config.layers[1].qk_norm);
  CHECK(config_from_json(to_json(config), "test") == config);
  Transformer model(config);
  initialize(model, 6);
  const std::vector<int32_t> ids = some_ids(40);
  const Tensor before = in_one_pass(model, ids, 1, DType::f32);
  for (const char* other : {"full", "conv:5,full", "conv:4", "full,conv:4"})
    CHECK_THROWS_AS(model.set_attention(other), Error);
  CHECK(attention_of(model.config()) == "conv:4,full");
  CHECK(relative_error(in_one_pass(model, ids, 1, DType::f32), before) == 0.0);
  model.set_attention("conv:4,window:8");
  CHECK(relative_error(in_one_pass(model, ids, 1, DType::f32), before) > 1e-4);
  for (const auto change : {+[](LayerBlueprint& l) { l.kv_heads = 2; }, +[](LayerBlueprint& l) { l.qk_norm = true; },
                            +[](LayerBlueprint& l) { l.score = "softcap:3"; }}) {
    Config wrong = config;
    change(wrong.layers[0]);
    CHECK_THROWS_AS(check(wrong), Error);
  }
}
