#include "model/transformer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "model/session.h"
#include "model/store.h"
#include "nn/attention/pattern.h"
#include "ops/divergence.h"
#include "support/check.h"
#include "support/mixers.h"
#include "support/models.h"
#include "weights/packed_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

Config learned_config() {
  Config c = small_config();
  c.block.positions = positions_named("learned");
  c.block.norm = norm_named("layer_norm");
  c.block.activation = activation_named("gelu");
  c.block.biases = true;
  c.tied = false;
  return c;
}

Config attending(const std::string& kinds) {
  Config c = small_config();
  c.context = 300;
  set_attention(c, kinds);
  return c;
}

Tensor in_one_pass(Transformer& model, const std::vector<int32_t>& ids, int64_t batch, DType type) {
  const Call call = model.call(Batch::whole(batch, static_cast<int64_t>(ids.size()) / batch), type);
  return model.hidden(ids, call).value().to(DType::f32);
}

// The same through a cache, in pieces of the given lengths.
Tensor in_pieces(Transformer& model, const std::vector<int32_t>& ids, int64_t batch, const std::vector<int64_t>& pieces,
                 DType type) {
  const int64_t length = static_cast<int64_t>(ids.size()) / batch, dim = model.config().block.dim;
  Session session(model, {batch, length, type});
  const Tensor all = Tensor::empty({batch * length, dim});
  int64_t done = 0;
  for (int64_t piece : pieces) {
    std::vector<int32_t> part;
    for (int64_t s = 0; s < batch; ++s)
      part.insert(part.end(), ids.begin() + s * length + done, ids.begin() + s * length + done + piece);
    const Tensor hidden = session.hidden(part).to(DType::f32);
    for (int64_t s = 0; s < batch; ++s)
      std::copy_n(hidden.data<float>() + s * piece * dim, piece * dim, all.data<float>() + (s * length + done) * dim);
    done += piece;
  }
  REQUIRE(done == length);
  return all;
}

}  // namespace

TEST_CASE("a cache gives what one pass gives: token by token, in chunks, ragged") {
  at_every_isa([] {
    for (const Config& config : {small_config(), learned_config()}) {
      Transformer model(config);
      initialize(model, 3);
      const std::vector<int32_t> ids = some_ids(2 * 90);
      const Tensor expected = in_one_pass(model, ids, 2, DType::f32);
      CHECK(relative_error(in_pieces(model, ids, 2, std::vector<int64_t>(90, 1), DType::f32), expected) < 1e-4);
      CHECK(relative_error(in_pieces(model, ids, 2, {64, 1, 1, 17, 7}, DType::f32), expected) < 1e-4);
      const Tensor rounded = in_one_pass(model, ids, 2, DType::bf16);
      CHECK(relative_error(in_pieces(model, ids, 2, {33, 1, 1, 50, 5}, DType::bf16), rounded) < 0.05);
    }
  });
}

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

TEST_CASE("initial weights have the deviation of 0.02, or the one asked for") {
  Transformer model(small_config());
  const auto deviation = [](Weight& weight) {
    double squares = 0;
    const auto values = weight.parameter()->value.span<float>();
    for (const float w : values) squares += static_cast<double>(w) * static_cast<double>(w);
    return std::sqrt(squares / static_cast<double>(values.size()));
  };
  struct Collector : Visitor {
    std::map<std::string, std::shared_ptr<Weight>> all;
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override { all[info.name] = weight; }
    void parameter(const ParameterInfo&, Parameter&) override {}
  } found;
  model.visit(found);
  const double branches = 2 * static_cast<double>(model.config().layers.size());
  for (const auto asked : {std::optional<double>(), std::optional<double>(0.3)}) {
    if (asked)
      initialize(model, 3, *asked);
    else
      initialize(model, 3);
    const double expected = asked.value_or(0.02);
    CHECK(deviation(*found.all.at("embedding.weight")) == doctest::Approx(expected).epsilon(0.05));
    CHECK(deviation(*found.all.at("blocks.0.attention.qkv.weight")) == doctest::Approx(expected).epsilon(0.05));
    CHECK(deviation(*found.all.at("blocks.1.feed_forward.down.weight")) ==
          doctest::Approx(expected / std::sqrt(branches)).epsilon(0.05));
  }
}

TEST_CASE("a later token does not change an earlier one's hidden state") {
  Transformer model(small_config());
  initialize(model, 3);
  std::vector<int32_t> ids = some_ids(70);
  const Tensor before = in_one_pass(model, ids, 1, DType::f32);
  ids[60] = (ids[60] + 1) % 50;
  const Tensor after = in_one_pass(model, ids, 1, DType::f32);
  CHECK(relative_error(after.rows(0, 60), before.rows(0, 60)) == 0.0);
  CHECK(relative_error(after.rows(60, 1), before.rows(60, 1)) > 1e-3);
}

TEST_CASE("learned positions and caches refuse to be overrun") {
  Transformer model(learned_config());
  initialize(model, 3);
  CHECK_THROWS_AS(in_one_pass(model, some_ids(97), 1, DType::f32), Error);
  Transformer rotary(small_config());
  initialize(rotary, 3);
  CHECK_NOTHROW(in_one_pass(rotary, some_ids(97), 1, DType::f32));
  State state = rotary.make_state({1, 10, DType::f32});
  const Call call = rotary.call(Batch::whole(1, 11), DType::f32);
  CHECK_THROWS_AS(rotary.hidden(some_ids(11), call, &state), Error);
}

namespace {

// A model whose block has one row of a table in place of what it had: it reads back by that row's name, its parameters
// have gradients, and pieces of a sequence give what the whole gives.
void check_row(const char* member, std::string_view name, const Config& config) {
  CAPTURE(std::string(name));
  CHECK(to_json(config).at(member) == std::string(name));
  CHECK(config_from_json(to_json(config), "x") == config);
  Transformer model(config);
  initialize(model, 3);
  const std::vector<int32_t> ids = some_ids(40);
  CHECK(relative_error(in_pieces(model, ids, 2, {11, 1, 8}, DType::f32), in_one_pass(model, ids, 2, DType::f32)) <
        1e-4);
  Tape tape;
  const Var hidden = model.hidden(ids, model.call(Batch::whole(2, 20), DType::f32));
  tape.backward(hidden, random_tensor(hidden.shape(), 5));
  struct Moved : Visitor {
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (Parameter* p = weight->parameter()) parameter(info, *p);
    }
    void parameter(const ParameterInfo& info, Parameter& p) override {
      CAPTURE(info.name);
      CHECK(static_cast<bool>(p.grad));
      ++count;
    }
    int count = 0;
  } moved;
  model.visit(moved);
  CHECK(moved.count > 10);
}

}  // namespace

TEST_CASE("each norm, activation and kind of positions reads back by its name and runs") {
  for (size_t i = 0; i < std::size(norm_kinds); ++i) {
    Config c = small_config();
    c.block.norm = static_cast<NormKind>(i);
    check_row("norm", norm_kinds[i].name, c);
  }
  for (size_t i = 0; i < std::size(activation_kinds); ++i) {
    Config c = small_config();
    c.block.activation = static_cast<ActivationKind>(i);
    check_row("activation", activation_kinds[i].name, c);
  }
  for (size_t i = 0; i < std::size(position_kinds); ++i) {
    Config c = small_config();
    c.block.positions = static_cast<PositionKind>(i);
    check_row("positions", position_kinds[i].name, c);
    CHECK((max_positions(c) == c.context) == position_kinds[i].learned);
    CHECK(max_positions(c) >= c.context);
  }
}

TEST_CASE("packed weights give nearly the hidden states of the matrices they hold") {
  at_every_isa([] {
    Transformer model(small_config());
    initialize(model, 3);
    struct Packer : Visitor {
      void weight(const ParameterInfo&, std::shared_ptr<Weight>& weight) override {
        weight = pack_bf16(weight->to_dense(), {});
      }
      void parameter(const ParameterInfo&, Parameter&) override {}
    } packer;
    const std::vector<int32_t> ids = some_ids(80);
    const Tensor dense = in_one_pass(model, ids, 1, DType::f32);
    model.visit(packer);
    CHECK(relative_error(in_one_pass(model, ids, 1, DType::f32), dense) < 0.05);
    CHECK(relative_error(in_pieces(model, ids, 1, {40, 1, 1, 38}, DType::bf16), dense) < 0.05);
  });
}

TEST_CASE("all observers of a call see the stream behind each layer and add their terms, also where layers run again") {
  struct Adder : StreamObserver {
    std::string name;
    std::vector<int64_t> seen;
    void behind(int64_t layer, Stream& stream) override {
      seen.push_back(layer);
      const Tensor wanted = Tensor::zeros(stream.residual.shape());
      stream.terms.push_back(ops::match_rows(name, stream.residual, stream.branch, wanted, 0.5f));
      stream.terms.back().of = LossOf::other;
    }
  };
  Transformer model(small_config());
  initialize(model, 3);
  const std::vector<int32_t> ids = some_ids(20);
  for (const bool again : {false, true}) {
    Adder first, second;
    first.name = "first";
    second.name = "second";
    Call call = model.call(Batch::whole(1, 20), DType::f32);
    call.streams = {&first, &second};
    if (again) call.recompute = recompute_plan("blocks");
    Tape tape;
    const Transformer::Output out = model.forward(ids, call);
    std::string names;
    for (const LossTerm& term : out.terms) {
      names += term.name + " ";
      CHECK(term.weight == 0.5f);
      CHECK(term.of == LossOf::other);
    }
    CHECK(names == "first second first second ");
    tape.backward(out.terms);
    CHECK(first.seen == (again ? std::vector<int64_t>{0, 1, 1, 0} : std::vector<int64_t>{0, 1}));
    CHECK(second.seen == first.seen);
  }
}

TEST_CASE("configurations survive JSON, and impossible ones are refused by name") {
  for (const Config& config : {small_config(), learned_config(), preset("nano"), preset("gpt2")})
    CHECK(config_from_json(to_json(config), "x") == config);
  const auto refused = [](const char* name, nlohmann::json value) {
    nlohmann::json json = to_json(small_config());
    if (value.is_null())
      json.erase(name);
    else
      json[name] = value;
    CAPTURE(json.dump());
    try {
      config_from_json(json, "'f.h5'");
      FAIL("accepted");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
      CHECK(std::string(error.what()).find("'f.h5'") != std::string::npos);
    }
  };
  refused("dim", nullptr);
  refused("dim", 0);
  refused("dim", -5);
  refused("dim", "wide");
  refused("dim", int64_t{1} << 60);
  refused("vocabulary", 1e300);
  refused("padded_vocabulary", 3);
  refused("norm", "batch_norm");
  refused("tied", 1);
  refused("head_dim", 15);
  refused("layers", nlohmann::json::array());
  refused("layers", {{{"heads", 3}, {"kv_heads", 2}, {"ffn", 8}, {"attention", "full"}}});
  refused("norm_epsilon", 0);
  CHECK_THROWS_AS(preset("huge"), Error);
}

TEST_CASE("a model file holds the model: saved, loaded and saved again") {
  const std::string path = "transformer_test.h5", again = "transformer_test_again.h5";
  Model model;
  model.transformer = std::make_unique<Transformer>(learned_config());
  initialize(*model.transformer, 11);
  const WrittenFile first = save_model(path, model, true);
  Model loaded = load_model(path);
  CHECK(loaded.transformer->config() == model.transformer->config());
  const std::vector<int32_t> ids = some_ids(30);
  CHECK(relative_error(in_one_pass(*loaded.transformer, ids, 1, DType::f32),
                       in_one_pass(*model.transformer, ids, 1, DType::f32)) == 0.0);
  CHECK(save_model(again, loaded, true).sha256 == first.sha256);
  const ModelSize size = size_of(*loaded.transformer);
  CHECK(size.parameters > size.prunable);
  CHECK(size.sparsity() == 0.0);
  std::remove(path.c_str());
  std::remove(again.c_str());
}
