// Routers of depth in a model: nothing depends on what follows, nor on how a sequence is cut into calls.
#include <doctest/doctest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "model/depth_routers.h"
#include "model/exits.h"
#include "model/rebuild.h"
#include "model/session.h"
#include "support/check.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;

namespace {

Config routed_config(const std::string& attention = "full", int64_t experts = 0) {
  Config c = small_config();
  c.layers.assign(4, {2, 1, 32, "full"});
  c.block.dim = 32;
  if (experts) c.layers[1].experts = experts, c.layers[1].top_k = 2;
  set_attention(c, attention);
  set_depth_routers(c, std::vector<int64_t>{1, 3}, 0.5);
  set_exits(c, std::vector<int64_t>{2});
  return c;
}

std::unique_ptr<Transformer> made(const Config& config) {
  auto model = std::make_unique<Transformer>(config);
  initialize(*model, 3, 0.2);
  // Routers and predictors that choose about half: their numbers are as small as embeddings otherwise.
  struct Larger : Visitor {
    void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      if (info.role != Role::depth_router) return;
      for (float& x : parameter.value.span<float>()) x *= 20;
    }
  } larger;
  model->visit(larger);
  return model;
}

Tensor whole(const Transformer& model, std::span<const int32_t> ids, ModelDepth* depth = nullptr) {
  const NoTape pause;
  Call call = model.call(Batch::whole(1, static_cast<int64_t>(ids.size())), DType::f32);
  call.trace.depth = depth;
  return model.hidden(ids, call).value();
}

Tensor last_row(const Tensor& t) {
  return t.rows(t.dim(0) - 1, 1);
}

const char* const kinds[] = {"full", "window:7", "window:6:2,full", "routed:64:1"};

std::map<std::string, Parameter*> parameters_of(Transformer& model) {
  struct Lister : Visitor {
    std::map<std::string, Parameter*> all;
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      all[info.name] = weight->parameter();
    }
    void parameter(const ParameterInfo& info, Parameter& parameter) override { all[info.name] = &parameter; }
  } lister;
  model.visit(lister);
  return lister.all;
}

}  // namespace

TEST_CASE("routers are part of the configuration, and what cannot be is refused") {
  const Config c = routed_config();
  CHECK(depth_routers_of(c) == std::vector<int64_t>{1, 3});
  CHECK(config_from_json(to_json(c), "test") == c);
  CHECK(describe_depth_routers(c) == "0.5 of the tokens through layers 1, 3");
  CHECK(to_json(small_config()).dump().find("depth") == std::string::npos);
  Config other = c;
  for (const double wrong : {0.0, 1.0, -0.5, 2.0, static_cast<double>(NAN)})
    CHECK_THROWS_AS(set_depth_routers(other, std::vector<int64_t>{1}, wrong), Error);
  for (const int64_t wrong : {-1, 4})
    CHECK_THROWS_AS(set_depth_routers(other, std::vector<int64_t>{wrong}, 0.5), Error);
  nlohmann::json damaged = to_json(c);
  damaged["layers"][1]["depth_fraction"] = 1.5;
  CHECK_THROWS_AS(config_from_json(damaged, "test"), Error);
  damaged["layers"][1]["depth_fraction"] = "half";
  CHECK_THROWS_AS(config_from_json(damaged, "test"), Error);
}

TEST_CASE("what a model says of a beginning does not depend on what follows") {
  for (const char* kind : kinds) {
    CAPTURE(kind);
    const auto model = made(routed_config(kind));
    const std::vector<int32_t> ids = some_ids(60);
    ModelDepth depth;
    const Tensor all = whole(*model, ids, &depth);
    CHECK(sum(depth).tokens == 120);
    CHECK(sum(depth).compared == 120);
    CHECK(sum(depth).passed > 20);  // some go through, and some do not
    CHECK(sum(depth).passed < 100);
    for (const int64_t length : {1, 17, 59})
      CHECK(relative_error(whole(*model, std::span(ids).first(static_cast<size_t>(length))), all.rows(0, length)) <
            1e-5);
  }
}

TEST_CASE("chunks and single tokens give what the whole gives, whatever the attention") {
  for (const char* kind : kinds)
    for (const int64_t experts : {0, 4}) {
      CAPTURE(kind);
      const auto model = made(routed_config(kind, experts));
      const std::vector<int32_t> ids = some_ids(60);
      const Tensor expected = whole(*model, ids);
      for (const int64_t chunk : {1, 7, 64}) {
        Session session(*model, {1, 60});
        CHECK(relative_error(session.hidden(ids, chunk), expected) < 1e-4);
      }
    }
}

TEST_CASE("sequences beside each other, of different lengths, are as alone") {
  const auto model = made(routed_config("full,window:7"));
  const std::vector<int32_t> ids = some_ids(60);
  Session session(*model, {3, 60});
  const std::vector<Session::Piece> pieces = {
      {0, Input(std::span(ids).first(21))}, {1, Input(std::span(ids).first(1))}, {2, Input(std::span(ids).first(40))}};
  session.feed(pieces, 9);
  const std::vector<Session::Piece> more = {{2, Input(std::span(ids).subspan(40, 1))},
                                            {0, Input(std::span(ids).subspan(21, 2))}};
  const Tensor logits = session.feed(more);
  const NoTape pause;
  CHECK(relative_error(logits.rows(0, 1), model->logits(last_row(whole(*model, std::span(ids).first(41))))) < 1e-4);
  CHECK(relative_error(logits.rows(1, 1), model->logits(last_row(whole(*model, std::span(ids).first(23))))) < 1e-4);
}

TEST_CASE("tokens that are taken back leave nothing behind") {
  for (const char* kind : kinds) {
    CAPTURE(kind);
    const auto model = made(routed_config(kind));
    std::vector<int32_t> ids = some_ids(60);
    Session session(*model, {1, 60, DType::f32, 9});
    session.feed(std::span<const int32_t>(ids).first(30));
    for (const size_t back : {size_t{1}, size_t{9}, size_t{4}}) {  // as drafts that were wrong
      const auto from = static_cast<size_t>(session.length()) - back;
      session.truncate(0, static_cast<int64_t>(from));
      for (size_t i = from; i < ids.size(); ++i) ids[i] = (ids[i] + 1) % 50;
      const Tensor hidden = session.hidden(std::span<const int32_t>(ids).subspan(from, back + 3));
      CHECK(relative_error(last_row(hidden), last_row(whole(*model, std::span(ids).first(from + back + 3)))) < 1e-4);
    }
    session.truncate(0, 0);
    CHECK(relative_error(session.hidden(ids), whole(*model, ids)) < 1e-4);
  }
}

TEST_CASE("a sequence begins as another one that was kept") {
  for (const char* kind : kinds) {
    CAPTURE(kind);
    const auto model = made(routed_config(kind));
    const std::vector<int32_t> ids = some_ids(40);
    const NoTape pause;
    State state = model->make_state({2, 60});
    const auto run = [&](int64_t sequence, int64_t first, int64_t count) {
      const Call call = model->call(Batch({{sequence, first, count}}), DType::f32);
      return model->hidden(std::span(ids).subspan(static_cast<size_t>(first), static_cast<size_t>(count)), call, &state)
          .value();
    };
    run(0, 0, 25);
    run(1, 0, 3);
    const State::Kept kept = state.keep(0);
    run(0, 25, 5);  // goes on without the copy
    state.begin(1, 25, &kept);
    CHECK(relative_error(run(1, 25, 15), whole(*model, ids).rows(25, 15)) < 1e-4);
    state.begin(1, 0, nullptr);
    CHECK(relative_error(run(1, 0, 40), whole(*model, ids)) < 1e-4);
  }
}

TEST_CASE("tokens that waited behind an exit are filled in as if none had") {
  const auto model = made(routed_config("full,window:7"));
  const std::vector<int32_t> ids = some_ids(40);
  for (const auto filling : {Session::Filling::exact, Session::Filling::propagated}) {
    Session session(*model, {1, 40, DType::f32, 9});
    session.set_filling(filling);
    session.feed(std::span(ids).first(10));
    for (size_t t = 10; t < ids.size(); ++t) {
      Tensor hidden = session.shallow(std::span(ids).subspan(t, 1), 2);
      if (t % 4 != 3) continue;
      hidden = session.deeper(4);
      const double error = relative_error(hidden, last_row(whole(*model, std::span(ids).first(t + 1))));
      CHECK(error < (filling == Session::Filling::exact ? 1e-4 : 2));
    }
  }
}

TEST_CASE("gradients of a model with routers agree with finite differences") {
  const auto model = made(routed_config());
  const std::vector<int32_t> ids = some_ids(24);
  const auto all = parameters_of(*model);
  const std::vector<std::string> names = {"blocks.1.depth_router.weight",    "blocks.3.depth_router.norm.gain",
                                          "blocks.1.attention_norm.gain",    "blocks.3.feed_forward_norm.gain",
                                          "blocks.0.feed_forward_norm.gain", "norm.gain"};
  std::vector<Tensor> numbers;
  for (const std::string& name : names) numbers.push_back(all.at(name)->value);
  check_gradients(
      [&] {
        for (const auto& [name, parameter] : all) ++parameter->version;
        Call call = model->call(Batch::whole(3, 8), DType::f32);
        call.best_pass = true;
        return model->hidden(ids, call);
      },
      numbers, [&](size_t i) { return all.at(names[i])->grad; }, 2e-2, 2e-3f);
}

TEST_CASE("what runs again for the backward pass gives the same bits") {
  const auto model = made(routed_config("full", 4));
  const std::vector<int32_t> ids = some_ids(48);
  const auto all = parameters_of(*model);
  std::map<std::string, Tensor> expected;
  for (const RecomputePlan& plan : recompute_plans(4))
    for (const bool skips : {false, true}) {
      CAPTURE(to_string(plan));
      for (const auto& [name, parameter] : all) parameter->has_grad = false;
      Call call = model->call(Batch::whole(3, 16), DType::f32);
      call.best_pass = true;
      call.recompute = plan;
      call.noise = {7, 0.1f};
      if (skips) call.skip = {0, 0.3f, 0.3f, 0.3f};
      ModelDepth depth;
      call.trace.depth = &depth;
      Tape tape;
      Transformer::Output out = model->forward(ids, call);
      CHECK(out.terms.size() == 2);
      CHECK(sum(depth).tokens == 96);  // of the first run alone
      out.terms.push_back({"next_token", model->loss(out.hidden, ids).term.value});
      out.hidden = Var();
      tape.backward(out.terms);
      for (const auto& [name, parameter] : all) {
        const std::string key = name + (skips ? " skips" : "");
        if (!parameter->has_grad) continue;
        if (!expected.contains(key)) expected[key] = parameter->grad.clone();
        CHECK(relative_error(parameter->grad, expected[key]) == 0.0);
      }
    }
}

TEST_CASE("routers follow the layers that stay, and a model that has none gets some") {
  const auto model = made(routed_config());
  const std::vector<int32_t> ids = some_ids(20);
  std::vector<KeptLayer> kept = whole_layers(model->config());
  CHECK(relative_error(whole(*keep_layers(*model, kept), ids), whole(*model, ids)) == 0.0);
  kept.erase(kept.begin());
  CHECK(depth_routers_of(keep_layers(*model, kept)->config()) == std::vector<int64_t>{0, 2});
  Config plain = small_config();
  Transformer dense(plain);
  initialize(dense, 1);
  dense.set_depth_routers(std::vector<int64_t>{1}, 0.25, 1);
  set_depth_routers(plain, std::vector<int64_t>{1}, 0.25);
  CHECK(dense.config() == plain);
  Transformer fresh(plain);
  initialize(fresh, 1);
  CHECK(relative_error(whole(dense, ids), whole(fresh, ids)) == 0.0);  // as if it had had it from the start
  dense.set_depth_routers(std::vector<int64_t>{1}, 0.75, 2);           // stays, for more tokens
  const auto weight = parameters_of(dense).at("blocks.1.depth_router.weight");
  CHECK(relative_error(weight->value, parameters_of(fresh).at("blocks.1.depth_router.weight")->value) == 0.0);
  CHECK(dense.blocks()[1].router->fraction() == 0.75);
  CHECK_THROWS_AS(dense.set_depth_routers(std::vector<int64_t>{2}, 0.5, 1), Error);
}
