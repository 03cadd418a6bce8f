#include "model/transformer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "lib/model/passes.h"
#include "model/session.h"
#include "model/store.h"
#include "nn/attention/pattern.h"
#include "ops/divergence.h"
#include "support/check.h"
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
      if (value.is_null()) CHECK(std::string(error.what()).find(name) != std::string::npos);
    }
  };
  const nlohmann::json whole = to_json(small_config());
  for (const auto& [name, value] : whole.items()) refused(name.c_str(), nullptr);
  for (const auto& value : std::vector<nlohmann::json>{0, -5, 32.5, "wide", int64_t{1} << 60}) refused("dim", value);
  for (const auto& value : std::vector<nlohmann::json>{0, 300, 1e300}) refused("vocabulary", value);
  for (const auto& value : {int64_t{3}, int64_t{1} << 62}) refused("padded_vocabulary", value);
  for (const auto& value : {int64_t{-1}, int64_t{1} << 60}) refused("context", value);
  for (const char* name : {"norm", "activation", "positions"}) {
    refused(name, "nothing");
    refused(name, 3);
  }
  refused("tied", 1);
  refused("biases", "yes");
  refused("head_dim", 15);
  refused("layers", "two");
  refused("layers", nlohmann::json::array());
  refused("layers", std::vector<nlohmann::json>(5000, whole["layers"][0]));
  refused("layers", {{{"heads", 3}, {"kv_heads", 2}, {"ffn", 8}, {"attention", "full"}}});
  refused("layers", {{{"heads", 2}, {"kv_heads", 2}, {"ffn", int64_t{1} << 50}, {"attention", "full"}}});
  refused("norm_epsilon", -1);
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
