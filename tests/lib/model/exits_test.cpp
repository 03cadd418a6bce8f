// Exits in a model: their places, their gradients, and tokens that wait behind them.
#include "model/exits.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "model/exit_calibration.h"
#include "model/rebuild.h"
#include "model/session.h"
#include "nn/mixer.h"
#include "nn/skip.h"
#include "support/check.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;

namespace {

Config deep_config(const std::string& attention = "full", int64_t layers = 4,
                   const std::vector<int64_t>& exits = {1, 3}) {
  Config c = small_config();
  c.layers.assign(static_cast<size_t>(layers), {2, 1, 32, "full"});
  c.block.dim = 32;
  set_attention(c, attention);
  set_exits(c, exits);
  return c;
}

// Gains differ, so that the norms of exits are told apart.
std::unique_ptr<Transformer> made(const Config& config) {
  auto model = std::make_unique<Transformer>(config);
  initialize(*model, 3, 0.2);
  struct Gains : Visitor {
    void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      if (info.role != Role::gain) return;
      Random random(4, info.name);
      for (float& x : parameter.value.span<float>()) x = static_cast<float>(1 + 0.3 * random.normal());
    }
  } gains;
  model->visit(gains);
  return model;
}

// Hidden states of all rows behind so many layers, without a state.
Tensor whole(const Transformer& model, std::span<const int32_t> ids, int64_t depth) {
  const NoTape pause;
  const Call call = model.call(Batch::whole(1, static_cast<int64_t>(ids.size())), DType::f32);
  return model.read(model.run(model.embed(ids, call), 0, depth, call), depth, call).value();
}

Tensor last_row(const Tensor& t) {
  return t.rows(t.dim(0) - 1, 1);
}

std::vector<std::pair<std::string, Parameter*>> parameters_of(Transformer& model) {
  struct Lister : Visitor {
    std::vector<std::pair<std::string, Parameter*>> all;
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      all.emplace_back(info.name, weight->parameter());
    }
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      all.emplace_back(info.name, &parameter);
    }
  } lister;
  model.visit(lister);
  return lister.all;
}

}  // namespace

TEST_CASE("exits are named by the layers before them") {
  CHECK(parse_exits("every:2", 8) == std::vector<int64_t>{2, 4, 6});
  CHECK(parse_exits("every:3", 8) == std::vector<int64_t>{3, 6});
  CHECK(parse_exits("5,1", 8) == std::vector<int64_t>{1, 5});
  for (const char* large : {"every:99999999999999999999", "1,99999999999999999999"}) {
    CAPTURE(large);
    CHECK_THROWS_WITH_AS(
        parse_exits(large, 8),
        (std::string("exits '") + large + "': 99999999999999999999 is too large: the model has 8 layers").c_str(),
        Error);
  }
  for (const char* wrong : {"", "every:", "every:0", "every:8", "0", "8", "2,", "2,2", "two", "-1", "2 ,4"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(parse_exits(wrong, 8), Error);
  }
  try {
    parse_exits("every:1", 1);
    FAIL("a model of one layer");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("only one") != std::string::npos);
  }
  Config c = deep_config();
  CHECK(exits_of(c) == std::vector<int64_t>{1, 3});
  CHECK(exits_of(config_from_json(to_json(c), "test")) == std::vector<int64_t>{1, 3});
  c.layers.back().exit = true;
  CHECK_THROWS_AS(check(c), Error);
  CHECK_THROWS_AS(require_exits(small_config(), "this"), Error);
  const nlohmann::json plain = to_json(small_config());
  for (const auto& layer : plain["layers"]) CHECK_FALSE(layer.contains("exit"));
}

TEST_CASE("reading exits changes nothing of the last layer, and gives what a shorter model gives") {
  const auto model = made(deep_config());
  const std::vector<int32_t> ids = some_ids(40);
  const NoTape pause;
  Call call = model->call(Batch::whole(2, 20), DType::f32);
  const Tensor plain = model->hidden(ids, call).value();
  call.exits = {1, 3};
  const Transformer::Output out = model->forward(ids, call);
  CHECK(relative_error(out.hidden.value(), plain) == 0.0);
  REQUIRE(out.exits.size() == 2);
  for (const ExitOutput& exit : out.exits) {
    const Tensor alone = whole(*model, std::span(ids).first(20), exit.depth);
    CHECK(relative_error(exit.hidden.value().rows(0, 20), alone) == 0.0);
  }
}

TEST_CASE("gradients of exits and of passed layers agree with finite differences") {
  const auto model = made(deep_config("full", 3, {1, 2}));
  Transformer& m = *model;
  const std::vector<int32_t> ids = some_ids(24);
  const auto parameters = parameters_of(m);
  for (const size_t read : {size_t{0}, size_t{1}, size_t{2}})
    for (const bool skips : {false, true}) {
      CAPTURE(read);
      CAPTURE(skips);
      const auto f = [&] {
        for (const auto& [name, parameter] : parameters) ++parameter->version;
        Call call = m.call(Batch::whole(3, 8), DType::f32);
        call.exits = {1, 2};
        if (skips) call.skip = {0.0f, 0.5f, 0.5f}, call.noise.seed = 11;
        const Transformer::Output out = m.forward(ids, call);
        return read < 2 ? out.exits[read].hidden : out.hidden;
      };
      std::vector<Tensor> numbers;
      std::vector<Parameter*> checked;
      for (const auto& [name, parameter] : parameters) {
        parameter->has_grad = false;
        if (name == "blocks.0.exit_norm.gain" || name == "blocks.1.exit_norm.gain" || name == "norm.gain" ||
            name == "blocks.1.attention_norm.gain" || name == "blocks.2.feed_forward_norm.gain" ||
            name == "blocks.0.feed_forward_norm.gain") {
          numbers.push_back(parameter->value);
          checked.push_back(parameter);
        }
      }
      REQUIRE(numbers.size() == 6);
      check_gradients(
          f, numbers,
          [&](size_t i) { return checked[i]->has_grad ? checked[i]->grad : Tensor::zeros(checked[i]->value.shape()); },
          2e-2);
    }
}

TEST_CASE("a sequence passes layers by as often as asked, and what is expected stays") {
  const NoTape pause;
  Call call;
  call.batch = Batch::whole(6, 2);
  call.skip = {0.0f, 0.3f};
  const Tensor x = random_tensor({12, 3}, 5), sum = Tensor::zeros({12, 3});
  CHECK_FALSE(remaining(call, 0));
  int64_t went = 0;
  constexpr int64_t draws = 4000;
  for (int64_t i = 0; i < draws; ++i) {
    call.noise.seed = static_cast<uint64_t>(i) * 7919;
    const Tensor y = for_some(Var(x), call, 1, [&](const Var& some, const Call& part) {
                       CHECK(part.batch.rows() == some.shape()[0]);
                       went += some.shape()[0] / 2;
                       return Var(some.value().clone());
                     }).value();
    for (int64_t j = 0; j < x.size(); ++j) sum.data<float>()[j] += y.data<float>()[j] / static_cast<float>(draws);
  }
  CHECK(static_cast<double>(went) / (6.0 * draws) == doctest::Approx(0.7).epsilon(0.02));
  CHECK(relative_error(sum, x) < 0.05);
}

TEST_CASE("exits follow the layers that stay, and begin as the last norm is") {
  const auto model = made(deep_config());
  std::vector<KeptLayer> kept = whole_layers(model->config());
  const auto same = keep_layers(*model, kept);
  const std::vector<int32_t> ids = some_ids(12);
  CHECK(relative_error(whole(*same, ids, 3), whole(*model, ids, 3)) == 0.0);
  kept.erase(kept.begin() + 1);
  CHECK(exits_of(keep_layers(*model, kept)->config()) == std::vector<int64_t>{1, 2});
  kept.pop_back();  // what had an exit is the last now
  CHECK(exits_of(keep_layers(*model, kept)->config()) == std::vector<int64_t>{1});
  const auto plain = std::make_unique<Transformer>(small_config());
  initialize(*plain, 1);
  const Tensor before = whole(*plain, ids, 1);
  plain->set_exits(std::vector<int64_t>{1});
  CHECK(relative_error(whole(*plain, ids, 1), before) == 0.0);
  CHECK_THROWS_AS(plain->set_exits(std::vector<int64_t>{2}), Error);
  plain->set_exits({});
  CHECK(exits_of(plain->config()).empty());
}

TEST_CASE("a token that goes deep sees of those that waited what it would see had none") {
  for (const char* attention : {"full", "window:7", "window:6:2,full"})
    for (const auto filling : {Session::Filling::exact, Session::Filling::propagated}) {
      CAPTURE(attention);
      Config config = deep_config(attention);
      config.layers[1].qk_norm = config.layers[2].qk_norm = true;  // what is filled in is normed as well
      config.layers[2].score = "softcap:2";
      const auto model = made(config);
      const std::vector<int32_t> ids = some_ids(40);
      Session session(*model, {1, 40, DType::f32, 7});
      session.set_filling(filling);
      session.feed(std::span(ids).first(10));
      // How deep each token goes: of several kinds, so that tokens wait in two places.
      const auto depth_of = [](size_t t) { return t % 7 == 6 ? 4 : t % 3 == 2 ? 3 : 1; };
      for (size_t t = 10; t < ids.size(); ++t) {
        const std::span<const int32_t> seen = std::span(ids).first(t + 1);
        Tensor hidden = session.shallow(std::span(ids).subspan(t, 1), 1);
        CHECK(session.begun() == static_cast<int64_t>(t) + 1);
        if (depth_of(t) >= 3) hidden = session.deeper(3);
        if (depth_of(t) >= 4) hidden = session.deeper(4);
        if (depth_of(t) == 4) CHECK(session.length() == static_cast<int64_t>(t) + 1);
        const Tensor expected = last_row(whole(*model, seen, depth_of(t)));
        // The first layer is nobody's to fill in.
        if (filling == Session::Filling::exact || depth_of(t) == 1)
          CHECK(relative_error(hidden, expected) < 1e-4);
        else
          CHECK(relative_error(hidden, expected) < 2);  // a number, and another than the exact one
      }
    }
}

TEST_CASE("a session that ends early gives what its exit reads") {
  const auto model = made(deep_config());
  const std::vector<int32_t> ids = some_ids(30);
  Session session(*model, {1, 30});
  session.end_behind(3);
  const Tensor logits = session.feed(std::span<const int32_t>(ids), 7);
  const NoTape pause;
  CHECK(relative_error(logits, model->logits(last_row(whole(*model, ids, 3)))) < 1e-4);
  CHECK(session.length() == 30);
  CHECK_THROWS_AS(session.end_behind(2), Error);
}

TEST_CASE("rules of exits read what an exit sees as they say") {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.2f)}, here = {3, 4}, before = {8, 6};
  const ExitSeen seen = {logits, here, before}, first = {logits, here};
  CHECK(exit_criterion("gap").measure(seen) == doctest::Approx(0.2));
  CHECK(exit_criterion("entropy").measure(seen) == doctest::Approx(1.0297).epsilon(1e-3));
  CHECK(exit_criterion("saturation").measure(seen) == doctest::Approx(0.96));
  CHECK(parse_exit_rule("gap:0.1").sure(seen));
  CHECK_FALSE(parse_exit_rule("gap:0.3").sure(seen));
  CHECK(parse_exit_rule("entropy:1.1").sure(seen));
  CHECK_FALSE(parse_exit_rule("entropy:1").sure(seen));
  CHECK(parse_exit_rule("saturation:0.95").sure(seen));
  CHECK_FALSE(parse_exit_rule("saturation:0.97").sure(seen));
  CHECK_FALSE(parse_exit_rule("saturation:0").sure(first));  // nothing to compare with
  CHECK(to_string(parse_exit_rule("gap:0.25")) == "gap:0.25");
  for (const char* wrong : {"", "gap", "gap:", "gap:1.5", "gap:-1", "gap:x", "gap:0.1x", "entropy:-1", "entropy:99",
                            "saturation:1.1", "saturation", "none:1"})
    CHECK_THROWS_AS(parse_exit_rule(wrong), Error);
}

TEST_CASE("each criterion of exits is surer of one token than of many, and takes the numbers of its range") {
  const std::vector<float> sure_logits = {9, 0, 0}, unsure_logits = {0.1f, 0, 0}, here = {1, 2}, near = {1.1f, 2},
                           far = {2, -1};
  const ExitSeen one = {sure_logits, here, near}, many = {unsure_logits, here, far};
  for (const ExitCriterion& criterion : exit_criteria()) {
    CAPTURE(criterion.name);
    const double sure = criterion.measure(one), unsure = criterion.measure(many);
    CHECK((sure < unsure) == criterion.least_is_surer);
    const ExitRule between = {&criterion, (sure + unsure) / 2};
    CHECK(between.sure(one));
    CHECK_FALSE(between.sure(many));
    const auto named = [&](double number) { return parse_exit_rule(fmt::format("{}:{}", criterion.name, number)); };
    for (const double number : {criterion.least, criterion.most}) {
      CHECK(named(number).criterion == &criterion);
      CHECK(named(number).threshold == number);
    }
    CHECK_THROWS_AS(named(criterion.least - 1), Error);
    CHECK_THROWS_AS(named(criterion.most + 1), Error);
  }
}

TEST_CASE("a calibration holds for the stage that found it") {
  const ExitCalibration found = {parse_exit_rule("entropy:0.5"), 0.98, 0.95};
  nlohmann::json lineage = nlohmann::json::array({{{"tool", "train"}}});
  CHECK_THROWS_AS(calibration_of(lineage, "x"), Error);
  lineage.push_back({{"tool", "eval"}, {"results", {{calibration_member, to_json(found, {{"tokens", 5}})}}}});
  const ExitCalibration again = calibration_of(lineage, "x");
  CHECK(to_string(again.rule) == "entropy:0.5");
  CHECK(again.agreement == 0.98);
  CHECK(again.text_hash.empty());
  CHECK(describe_calibration(lineage) == "entropy:0.5, an agreement of 0.98 with 0.95 confidence");
  nlohmann::json damaged = lineage;
  damaged.back()["results"][calibration_member].erase("threshold");
  CHECK_THROWS_AS(calibration_of(damaged, "x"), Error);
  CHECK(describe_calibration(damaged) == "damaged");
  CHECK(describe_calibration(nlohmann::json::array({{{"tool", "train"}}})).empty());
  nlohmann::json with_evidence = lineage;
  with_evidence.back()["results"][calibration_member] = to_json(
      found, {{"text_hash", "ab"}, {"text", "t.txt"}, {"windows", 7}, {"context", 32}, {"measured_agreement", 0.99}});
  CHECK(calibration_of(with_evidence, "x").text_hash == "ab");
  CHECK(describe_calibration(with_evidence)
            .ends_with("; 0.9900 measured on 7 windows of 32 tokens of 't.txt' (hash ab)"));
  lineage.push_back({{"tool", "prune"}});
  CHECK(describe_calibration(lineage).find("changed since") != std::string::npos);
  CHECK_THROWS_AS(calibration_of(lineage, "x"), Error);
}
