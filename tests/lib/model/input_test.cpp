#include "model/input.h"

#include <doctest/doctest.h>

#include <cstring>

#include "base/error.h"
#include "model/session.h"
#include "support/check.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;

namespace {

Config media_config(bool both = false, PositionKind positions = positions_named("rotary")) {
  Config c = small_config();
  c.encoders = {"patches:2x3:GREY:8x9", "mel:4:8000:25/10:2"};
  c.media_both_ways = both;
  c.block.positions = positions;
  return c;
}

std::vector<float> numbers(int64_t count, uint64_t seed) {
  const Tensor t = random_tensor({count}, seed);
  return {t.span<float>().begin(), t.span<float>().end()};
}

// 3 tokens, an image of 2 x 3 patches, 2 tokens, a sound of 5 rows, 2 tokens.
struct Example {
  std::vector<int32_t> ids = some_ids(3 + 8 + 2 + 7 + 2);
  std::vector<MediaPart> parts;
  explicit Example(uint64_t seed = 1) {
    parts.push_back({0, 3, {numbers(36, seed), 6, 3}});
    parts.push_back({1, 13, {numbers(40, seed + 1), 8}});
  }
  Input input() const { return {ids, parts}; }
};

std::unique_ptr<Transformer> made(const Config& config) {
  auto model = std::make_unique<Transformer>(config);
  initialize(*model, 3, 0.2);
  return model;
}

Tensor hidden(const Transformer& model, const Input& input, std::vector<EncoderLoad>* loads = nullptr) {
  const NoTape pause;
  Call call = model.call(input, {{0, 0, input.size()}}, DType::f32);
  call.trace.encoders = loads;
  return model.hidden(input, call).value();
}

bool same_row(const Tensor& a, const Tensor& b, int64_t row) {
  return std::memcmp(a.rows(row, 1).raw(), b.rows(row, 1).raw(), a.rows(row, 1).bytes()) == 0;
}

}  // namespace

TEST_CASE("text alone is computed as without encoders, and touches none") {
  const auto with = made(media_config()), without = made(small_config());
  const std::vector<int32_t> ids = some_ids(30);
  std::vector<EncoderLoad> loads(2);
  const Tensor a = hidden(*with, ids, &loads), b = hidden(*without, ids);
  CHECK(std::ranges::equal(a.span<float>(), b.span<float>()));
  for (const EncoderLoad& load : loads) CHECK(load.calls == 0);
}

TEST_CASE("encoders run once a call for all their parts, and only where there are any") {
  const auto model = made(media_config());
  Example one(1), two(5);
  JoinedInput both;
  both.add(one.input());
  both.add(two.input());
  std::vector<EncoderLoad> loads(2);
  const NoTape pause;
  Call call = model->call(both.input(), {{0, 0, 22}, {1, 0, 22}}, DType::f32);
  call.trace.encoders = &loads;
  const Tensor rows = model->hidden(both.input(), call).value();
  CHECK(loads[0].calls == 1);
  CHECK(loads[0].parts == 2);
  CHECK(loads[0].rows == 16);
  CHECK(loads[1].rows == 14);
  CHECK(relative_error(rows.rows(22, 22), hidden(*model, two.input())) < 1e-5);

  loads.assign(2, {});
  const Input image_alone(std::span(one.ids).first(11), std::span(one.parts).first(1));
  hidden(*model, image_alone, &loads);
  CHECK(loads[0].calls == 1);
  CHECK(loads[1].calls == 0);
}

TEST_CASE("chunks of a session give what a run of the whole input gives, whatever sees what") {
  for (const bool both : {false, true})
    for (const auto& [positions, kinds] : {std::pair{positions_named("rotary"), "full"},
                                           {positions_named("learned"), "full"},
                                           {positions_named("rotary"), "window:6:2"}}) {
      Config config = media_config(both, positions);
      set_attention(config, kinds);
      const auto model = made(config);
      const Example example;
      const Tensor all = hidden(*model, example.input());
      const Tensor expected = model->logits(all.rows(21, 1));
      for (const int64_t chunk : {1, 4, 9, 100}) {
        CAPTURE(both);
        CAPTURE(kinds);
        CAPTURE(chunk);
        Session session(*model, {1, 30});
        const Tensor logits = session.feed(std::vector<Session::Piece>{{0, example.input()}}, chunk);
        CHECK(relative_error(logits, expected) < 1e-4);
        CHECK(session.length() == 22);
      }
    }
}

TEST_CASE("both ways the first patch sees the last, and text before them neither way") {
  for (const bool both : {false, true}) {
    const auto model = made(media_config(both));
    Example example;
    const Tensor before = hidden(*model, example.input()).clone();
    example.parts[0].features.values[35] += 1;
    const Tensor after = hidden(*model, example.input());
    CHECK(same_row(before, after, 2));
    CHECK(same_row(before, after, 4) == !both);
    CHECK(!same_row(before, after, 10));
    CHECK(!same_row(before, after, 21));
  }
}

TEST_CASE("gradients of encoders are those of finite differences") {
  for (const auto positions : {positions_named("rotary"), positions_named("learned")}) {
    const auto model = made(media_config(true, positions));
    const Example example;
    struct Collector : Visitor {
      std::vector<Parameter*> all;
      void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
        if (info.role == Role::encoder) all.push_back(weight->parameter());
      }
      void parameter(const ParameterInfo& info, Parameter& parameter) override {
        if (info.role == Role::encoder_row) all.push_back(&parameter);
      }
    } collector;
    model->visit(collector);
    REQUIRE(collector.all.size() == 8);  // projection, mark, delimiters of each; two tables
    std::vector<Tensor> numbers;
    for (Parameter* p : collector.all) {
      // Rows as small as they begin bend too much within a step of the differences.
      if (p->value.dim(0) <= 8 || p->value.shape().size() == 1)
        for (float& x : p->value.span<float>()) x *= 20;
      // A row of each is enough: every number costs two runs of the model.
      numbers.push_back(p->value.shape().size() == 2 ? p->value.rows(0, 1) : p->value);
    }
    const auto run = [&] {
      for (Parameter* p : collector.all) ++p->version;
      return model->hidden(example.input(), model->call(example.input(), {{0, 0, 22}}, DType::f32));
    };
    check_gradients(
        run, numbers,
        [&](size_t i) {
          const Tensor& grad = collector.all[i]->grad;
          return grad.shape().size() == 2 ? grad.rows(0, 1) : grad;
        },
        2e-2);
  }
}

TEST_CASE("a model's encoders are in its configuration and come back from it") {
  const Config config = media_config(true);
  CHECK(config_from_json(to_json(config), "'m.h5'") == config);
  CHECK(!to_json(small_config()).contains("encoders"));
  nlohmann::json broken = to_json(config);
  broken["encoders"] = {"patches:2x3", 7};
  CHECK_THROWS_WITH_AS(config_from_json(broken, "'m.h5'"),
                       "'m.h5': 'encoders' in the configuration is not a list of names", Error);
  broken["encoders"] = {"patches:0x3"};
  CHECK_THROWS_AS(config_from_json(broken, "'m.h5'"), Error);
}

TEST_CASE("encoders that cannot be are refused with what is wrong") {
  const auto refused = [](std::vector<std::string> encoders, const char* kinds = "full") {
    Config config = media_config(true);
    config.encoders = std::move(encoders);
    set_attention(config, kinds);
    try {
      check(config);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(refused({"patches:4x4"}) == "");
  CHECK(refused({"patches:4x4", "patches:2x2"}).find("a second for image") != std::string::npos);
  CHECK(refused({"pixels:4"}).find("known: patches:HEIGHTxWIDTH") != std::string::npos);
  CHECK(refused({"patches"}).find("0 words") != std::string::npos);
  CHECK(refused({"patches:4x4:BLUE"}).find("'BLUE'") != std::string::npos);
  CHECK(refused({"patches:8x8:GREY:4x4"}).find("smaller than a patch") != std::string::npos);
  CHECK(refused({"mel:40:8000:25"}).find("'25' is not 2 whole numbers") != std::string::npos);
  CHECK(refused({}).find("no encoder takes any") != std::string::npos);
  CHECK(refused({"patches:4x4"}, "routed:64:2").find("looks back alone") != std::string::npos);
}
