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

// The rows of two sequences in one call, one behind the other.
Tensor hidden_of_both(const Transformer& model, const Example& one, const Example& two,
                      std::vector<EncoderLoad>& loads) {
  JoinedInput both;
  both.add(one.input());
  both.add(two.input());
  const NoTape pause;
  Call call = model.call(both.input(), {{0, 0, 22}, {1, 0, 22}}, DType::f32);
  call.trace.encoders = &loads;
  return model.hidden(both.input(), call).value();
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
  std::vector<EncoderLoad> loads(2);
  const Tensor rows = hidden_of_both(*model, one, two, loads);
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

TEST_CASE("an input is cut between its parts, where blocks of attention are") {
  const Example example;  // parts in rows 3 to 10 and 13 to 19
  const Input input = example.input();
  CHECK(!input.cuts(3));
  CHECK(input.cuts(4));
  CHECK(!input.cuts(11));
  CHECK(input.uncut(3) == 3);
  CHECK(input.uncut(4) == 64);
  CHECK(input.uncut_before(12, 4) == 12);
  CHECK(input.uncut_before(18, 4) == 12);
  CHECK(input.uncut_before(18, 16) == 0);
  const std::vector<int32_t> ids = some_ids(200);
  const std::vector<MediaPart> parts = {{0, 40, {numbers(60 * 6, 1), 6, 6}}, {0, 120, {numbers(8 * 6, 2), 6, 2}}};
  const Input longer(ids, parts);  // rows 40 to 101, and 120 to 129
  CHECK(longer.uncut(64) == 192);  // 128 would divide the second
  CHECK(longer.uncut(110) == 110);
  CHECK(longer.uncut_before(129, 16) == 112);
  // Rows without parts know that their sequence has some.
  JoinedInput begin, text;
  begin.add(input, 0, 3);
  text.add(Input(example.ids), 0, 3);
  CHECK(begin.input().parts.empty());
  CHECK(begin.input().by_kind);
  CHECK(!text.input().by_kind);
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

namespace {

// Images through two layers of their own.
Config layered_config(bool both = false) {
  Config c = media_config(both);
  c.encoders[0] = "vit:2x3:2:GREY:8x9";
  return c;
}

}  // namespace

TEST_CASE("layers of an encoder let patches see each other, and images of a batch not") {
  const auto model = made(layered_config());
  Example one(1), two(5);
  const Tensor before = hidden(*model, one.input()).clone();
  one.parts[0].features.values[35] += 1;  // the last patch
  const Tensor after = hidden(*model, one.input());
  CHECK(same_row(before, after, 2));
  CHECK(same_row(before, after, 3));  // the delimiter
  CHECK(!same_row(before, after, 4));
  CHECK(!same_row(before, after, 21));

  std::vector<EncoderLoad> loads(2);
  const Tensor rows = hidden_of_both(*model, one, two, loads);
  CHECK(loads[0].calls == 1);
  CHECK(loads[0].rows == 16);
  CHECK(relative_error(rows.rows(0, 22), after) < 1e-5);
  CHECK(relative_error(rows.rows(22, 22), hidden(*model, two.input())) < 1e-5);
}

TEST_CASE("an encoder with layers goes through a session in chunks as whole") {
  for (const bool both : {false, true}) {
    const auto model = made(layered_config(both));
    const Example example;
    const Tensor expected = model->logits(hidden(*model, example.input()).rows(21, 1));
    for (const int64_t chunk : {1, 9, 100}) {
      CAPTURE(chunk);
      Session session(*model, {1, 30});
      CHECK(relative_error(session.feed(std::vector<Session::Piece>{{0, example.input()}}, chunk), expected) < 1e-4);
    }
  }
}

TEST_CASE("what an encoder's layers have is the encoder's, and has the gradients of finite differences") {
  const auto model = made(layered_config());
  const Example example;
  struct Collector : Visitor {
    std::vector<Parameter*> all;
    int64_t weights = 0, gains = 0;
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (!info.name.starts_with("encoders.image.layers.")) return;
      CHECK(info.role == Role::encoder);
      CHECK(info.layer == -1);
      all.push_back(weight->parameter());
      ++weights;
    }
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      if (!info.name.starts_with("encoders.image.layers.") && info.name != "encoders.image.norm.gain") return;
      CHECK(info.role == Role::gain);
      CHECK(info.of == Role::encoder);
      all.push_back(&parameter);
      ++gains;
    }
  } collector;
  model->visit(collector);
  CHECK(collector.weights == 2 * 4);  // qkv and output, gates with up and down
  CHECK(collector.gains == 2 * 2 + 1);
  const auto part = [](const Tensor& t) { return t.shape().size() == 2 ? t.rows(0, 1) : t; };
  std::vector<Tensor> numbers;
  for (Parameter* p : collector.all) numbers.push_back(part(p->value));
  const auto run = [&] {
    for (Parameter* p : collector.all) ++p->version;
    return model->hidden(example.input(), model->call(example.input(), {{0, 0, 22}}, DType::f32));
  };
  check_gradients(
      run, numbers, [&](size_t i) { return part(collector.all[i]->grad); }, 3e-2);
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
  CHECK(refused({"vit:4x4:2"}) == "");
  CHECK(refused({"vit:4x4"}).find("1 word behind its name") != std::string::npos);
  for (const char* layers : {"0", "RGB", "2000", "-1"})
    CHECK(refused({fmt::format("vit:4x4:{}", layers)}).find(fmt::format("'{}' is not 1 whole number", layers)) !=
          std::string::npos);
  CHECK(refused({"patches:4x4:BLUE"}).find("'BLUE'") != std::string::npos);
  CHECK(refused({"patches:8x8:GREY:4x4"}).find("smaller than a patch") != std::string::npos);
  CHECK(refused({"mel:40:8000:25"}).find("'25' is not 2 whole numbers") != std::string::npos);
  CHECK(refused({}).find("no encoder takes any") != std::string::npos);
  CHECK(refused({"patches:4x4"}, "routed:64:2").find("looks back alone") != std::string::npos);
}
