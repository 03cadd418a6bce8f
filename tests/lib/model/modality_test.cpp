// Weights of their own for each kind of part (Mixture of Transformers), against PyTorch and against models without.
#include <doctest/doctest.h>

#include <cstring>

#include "base/error.h"
#include "model/session.h"
#include "model/store.h"
#include "nn/encoders/encoder.h"
#include "support/check.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;

namespace {

Config fixture_config(const nlohmann::json& j) {
  Config c;
  c.vocabulary = c.padded_vocabulary = j.at("vocab").get<int64_t>();
  c.context = j.at("context").get<int64_t>();
  c.tied = false;
  c.block.dim = j.at("dim").get<int64_t>();
  c.block.head_dim = j.at("head_dim").get<int64_t>();
  c.block.norm = j.at("norm") == "layer" ? norm_named("layer_norm") : norm_named("rms_norm");
  c.block.norm_epsilon = j.at("norm_eps").get<float>();
  c.block.activation = j.at("activation") == "swiglu" ? activation_named("swiglu") : activation_named("gelu");
  c.block.biases = j.at("bias").get<bool>();
  c.layers.assign(j.at("layers").get<size_t>(),
                  {j.at("heads").get<int64_t>(), j.at("kv_heads").get<int64_t>(), j.at("ffn").get<int64_t>(), "full"});
  c.encoders = {"patches:2x3:GREY:8x9", "mel:4:8000:25/10:2"};
  set_modality_experts(c, j.at("modality_experts") == "all" ? ModalityExperts::all : ModalityExperts::ffn);
  return c;
}

std::vector<float> numbers(const Tensor& t) {
  return {t.span<float>().begin(), t.span<float>().end()};
}

// 3 tokens, an image of 2 x 3 patches, 2 tokens, a sound of 5 rows, 2 tokens.
struct Rows {
  std::vector<int32_t> ids;
  std::vector<MediaPart> parts;
  Rows(std::span<const int32_t> tokens, const Tensor& image, const Tensor& audio) : ids(22) {
    size_t token = 0;
    for (const size_t row : {0, 1, 2, 11, 12, 20, 21}) ids[row] = tokens[token++];
    parts.push_back({0, 3, {numbers(image), 6, 3}});
    parts.push_back({1, 13, {numbers(audio), 8}});
  }
  explicit Rows(uint64_t seed = 1) : Rows(some_ids(7), random_tensor({6, 6}, seed), random_tensor({5, 8}, seed + 1)) {}
  Input input() const { return {ids, parts}; }
};

Config config_of(ModalityExperts which) {
  Config c = small_config();
  c.encoders = {"patches:2x3:GREY:8x9", "mel:4:8000:25/10:2"};
  if (which != ModalityExperts::none) set_modality_experts(c, which);
  return c;
}

std::unique_ptr<Transformer> made(ModalityExperts which) {
  auto model = std::make_unique<Transformer>(config_of(which));
  initialize(*model, 3, 0.2);
  return model;
}

Tensor hidden(const Transformer& model, const Input& input) {
  const NoTape pause;
  return model.hidden(input, model.call(input, {{0, 0, input.size()}}, DType::f32)).value();
}

constexpr ModalityExperts both[] = {ModalityExperts::ffn, ModalityExperts::all};

}  // namespace

TEST_CASE("logits, loss and all gradients of text, an image and a sound equal PyTorch's") {
  at_every_isa([] {
    for (const std::string name : {"modality_ffn", "modality_all"}) {
      CAPTURE(name);
      const Fixture fixture(name);
      Transformer model(fixture_config(fixture.config()));
      FixtureLoader loader(fixture);
      model.visit(loader);
      const Rows rows(fixture.tensor("inputs/tokens").span<int32_t>(), fixture.tensor("inputs/image"),
                      fixture.tensor("inputs/audio"));
      const Tensor targets = fixture.tensor("inputs/targets");
      Tape tape;
      const Call call = model.call(rows.input(), {{0, 0, 22}}, DType::f32);
      const Var out = model.hidden(rows.input(), call);
      CHECK(relative_error(model.logits(out.value()), fixture.tensor("logits")) < 1e-4);
      const ops::TokenLosses losses = model.loss(out, targets.span<int32_t>());
      CHECK(relative_error(losses.term.value.value(), fixture.tensor("loss").reshape({1})) < 1e-4);
      tape.backward(std::vector<LossTerm>{losses.term});
      struct Checker : Reader {
        explicit Checker(const Fixture& f) : fixture(f) {}
        void weight(const ParameterInfo& info, const Weight& weight) override {
          compare(info, *const_cast<Weight&>(weight).parameter());
        }
        void parameter(const ParameterInfo& info, const Parameter& p) override { compare(info, p); }
        void compare(const ParameterInfo& info, const Parameter& p) {
          CAPTURE(info.name);
          CHECK(relative_error(p.grad, fixture.tensor("gradients/" + info.name)) < 1e-4);
          ++compared;
        }
        const Fixture& fixture;
        size_t compared = 0;
      } checker(fixture);
      std::as_const(model).visit(checker);
      CHECK(checker.compared == fixture.names("gradients/").size());
    }
  });
}

TEST_CASE("text alone goes the way of a model without, and needs none of the other weights") {
  for (const ModalityExperts which : both) {
    const auto with = made(which), without = made(ModalityExperts::none);  // a stream of numbers for each name
    const std::vector<int32_t> ids = some_ids(30);
    const Tensor a = hidden(*with, ids), b = hidden(*without, ids);
    CHECK(std::memcmp(a.raw(), b.raw(), a.bytes()) == 0);
    // Of rows of images a weight of their own is seen.
    const Rows rows;
    CHECK(relative_error(hidden(*with, rows.input()), hidden(*without, rows.input())) > 0.01);
    CHECK(size_of(*with).active_parameters == size_of(*without).active_parameters);
    CHECK(size_of(*with).parameters > size_of(*without).parameters);
  }
}

TEST_CASE("the weights of a kind move its rows and those that see them, and no others") {
  for (const ModalityExperts which : both) {
    const auto model = made(which);
    const Rows rows;
    const Tensor before = hidden(*model, rows.input()).clone();
    struct Change : Visitor {
      void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
        if (info.kind != 2) return;
        for (float& w : weight->parameter()->value.span<float>()) w *= 1.5f;
        ++weight->parameter()->version;
        ++changed;
      }
      void parameter(const ParameterInfo&, Parameter&) override {}
      int changed = 0;
    } change;
    model->visit(change);
    CHECK(change.changed == (which == ModalityExperts::all ? 8 : 4));
    const Tensor after = hidden(*model, rows.input());
    const auto same = [&](int64_t row) {
      return std::memcmp(before.rows(row, 1).raw(), after.rows(row, 1).raw(), before.rows(row, 1).bytes()) == 0;
    };
    for (int64_t row = 0; row < 13; ++row) CHECK(same(row));
    for (int64_t row = 13; row < 22; ++row) CHECK(!same(row));
  }
}

TEST_CASE("chunks of a session give what a run of the whole input gives") {
  for (const ModalityExperts which : both) {
    const auto model = made(which);
    const Rows rows;
    const Tensor expected = model->logits(hidden(*model, rows.input()).rows(21, 1));
    for (const int64_t chunk : {1, 4, 9, 100}) {
      CAPTURE(chunk);
      Session session(*model, {1, 30});
      CHECK(relative_error(session.feed(std::vector<Session::Piece>{{0, rows.input()}}, chunk), expected) < 1e-4);
    }
  }
}

TEST_CASE("sequences that pass a layer by take their kinds along") {
  const auto model = made(ModalityExperts::all);
  const Rows one(1), two(5);
  JoinedInput joined;
  joined.add(one.input());
  joined.add(two.input());
  Call call = model->call(joined.input(), {{0, 0, 22}, {1, 0, 22}}, DType::f32);
  const Batch half({{1, 0, 22}}, call.batch, [] {
    std::vector<int32_t> rows;
    for (int32_t row = 22; row < 44; ++row) rows.push_back(row);
    return rows;
  }());
  CHECK(std::ranges::equal(half.kinds(), call.batch.kinds().subspan(22)));
  CHECK(half.by_kind()->counts == std::vector<int64_t>{7, 8, 7});
  // Who passes by is drawn by place: the first sequence is what it is alone, whether the second is there or not.
  const NoTape pause;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Call alone = model->call(one.input(), {{0, 0, 22}}, DType::f32);
    call.skip = alone.skip = {0.0f, 0.5f};
    call.noise.seed = alone.noise.seed = seed;
    const Tensor both_rows = model->hidden(joined.input(), call).value().rows(0, 22);
    CHECK(relative_error(both_rows, model->hidden(one.input(), alone).value()) < 1e-5);
  }
}

TEST_CASE("which weights are of their own is in the configuration, and what cannot be is refused") {
  for (const ModalityExperts which : both) {
    const Config config = config_of(which);
    CHECK(config_from_json(to_json(config), "'m.h5'") == config);
  }
  CHECK(!to_json(config_of(ModalityExperts::none)).at("layers").at(0).contains("modalities"));
  const auto refused = [](auto&& change) {
    Config config = config_of(ModalityExperts::ffn);
    change(config);
    try {
      check(config);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(refused([](Config&) {}) == "");
  CHECK(refused([](Config& c) { c.layers[0].modalities = {"audio"}; }).find("own for 'audio'") != std::string::npos);
  CHECK(refused([](Config& c) { c.encoders.clear(); }).find("no encoder") != std::string::npos);
  CHECK(refused([](Config& c) { c.layers[1].experts = 4, c.layers[1].top_k = 1; }).find("not both") !=
        std::string::npos);
  CHECK(refused([](Config& c) { c.aligned = {"image", "image"}; }).find("two different media") != std::string::npos);
  CHECK(refused([](Config& c) {
          c.encoders.pop_back(), c.aligned = {"image", "audio"};
        }).find("'audio'") != std::string::npos);
  Config text = small_config();
  CHECK_THROWS_AS(set_modality_experts(text, ModalityExperts::all), Error);
}
