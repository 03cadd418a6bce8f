// Text whose tokens end early.
#include <doctest/doctest.h>

#include <algorithm>

#include "base/error.h"
#include "model/exits.h"
#include "serve/generate.h"

using namespace hone;

namespace {

struct Made {
  explicit Made(bool exits = true) : model(shape(exits)) {
    initialize(model, 3, 0.05);
    for (float& w : model.embedding()->parameter()->value.span<float>()) w *= 8;
    ++model.embedding()->parameter()->version;
  }
  static Config shape(bool exits) {
    Config c;
    c.context = 200;
    c.block.dim = 32;
    c.block.head_dim = 16;
    c.layers.assign(4, {2, 1, 48, "full"});
    if (exits) set_exits(c, std::vector<int64_t>{1, 3});
    return c;
  }
  Transformer model;
};

Generated write(const Transformer& model, const ExitSettings& exits, int64_t tokens = 40) {
  GenerateSettings s;
  s.tokens = tokens;
  s.sampling.temperature = 0;
  s.ignore_end = true;
  s.exits = exits;
  return generate(model, *byte_tokenizer(), byte_tokenizer()->encode("abcabcabc"), s, Random(1, "sampling"));
}

}  // namespace

TEST_CASE("a rule that is never sure writes the text of all layers, whatever fills in") {
  const Made made;
  const Generated plain = write(made.model, {});
  CHECK(plain.depths.empty());
  for (const auto filling : {Session::Filling::exact, Session::Filling::propagated}) {
    const Generated never = write(made.model, {parse_exit_rule("gap:1"), 0, filling});
    CHECK(never.tokens == plain.tokens);
    CHECK(never.depths == std::vector<int64_t>(40, 4));
  }
}

TEST_CASE("a rule that is always sure ends every token at the first exit") {
  const Made made;
  const Generated always = write(made.model, {parse_exit_rule("gap:0"), 0});
  REQUIRE(always.depths.size() == 40);
  CHECK(always.depths[0] == 4);  // the prompt's
  for (size_t i = 1; i < 40; ++i) CHECK(always.depths[i] == 1);
  CHECK(always.mean_depth() == doctest::Approx((4 + 39.0) / 40));
}

TEST_CASE("saturation compares with the exit before: never at the first") {
  const Made made;
  const Generated early = write(made.model, {parse_exit_rule("saturation:0"), 0});
  for (size_t i = 1; i < early.depths.size(); ++i) CHECK(early.depths[i] >= 3);
  CHECK(std::ranges::count(early.depths, 3) > 0);
  // No two exits read quite the same.
  const Generated late = write(made.model, {parse_exit_rule("saturation:1"), 0});
  CHECK(late.tokens == write(made.model, {}).tokens);
}

TEST_CASE("with exact filling, each token is what its exit reads of the text before it") {
  const Made made;
  const NoTape pause;
  std::vector<int64_t> seen(5, 0);
  for (const char* rule : {"gap:0.5", "gap:0.9", "gap:0.99", "gap:0.999", "entropy:0.01", "saturation:0.8"}) {
    const Generated text = write(made.model, {parse_exit_rule(rule), 0});
    std::vector<int32_t> ids = byte_tokenizer()->encode("abcabcabc");
    for (size_t i = 0; i < text.tokens.size(); ++i) {
      const Call call = made.model.call(Batch::whole(1, static_cast<int64_t>(ids.size())), DType::f32);
      const int64_t depth = text.depths[i];
      ++seen[static_cast<size_t>(depth)];
      const Stream stream = made.model.run(made.model.embed(ids, call), 0, depth, call);
      const Tensor hidden = made.model.read(stream, depth, call).value();
      const Tensor logits = made.model.logits(hidden.rows(hidden.dim(0) - 1, 1));
      const auto row = logits.span<float>();
      float highest = -1e30f;
      for (size_t id = 1; id < row.size(); ++id) highest = std::max(highest, row[id]);  // 0 ends documents
      CHECK(row[static_cast<size_t>(text.tokens[i])] >= highest - 1e-4f);
      ids.push_back(text.tokens[i]);
    }
  }
  CHECK(seen[1] > 3);
  CHECK(seen[3] + seen[4] > 6);
}

TEST_CASE("the hard way uses the first layers alone") {
  const Made made;
  const Generated short_way = write(made.model, {std::nullopt, 3});
  CHECK(short_way.depths == std::vector<int64_t>(40, 3));
  const Generated both = write(made.model, {parse_exit_rule("gap:0.5"), 3});
  for (const int64_t depth : both.depths) CHECK(depth <= 3);
}

TEST_CASE("what cannot be is refused") {
  const Made made, plain(false);
  CHECK_THROWS_AS(write(plain.model, {parse_exit_rule("gap:0.5"), 0}), Error);
  CHECK_THROWS_AS(write(plain.model, {std::nullopt, 2}), Error);
  CHECK_THROWS_AS(write(made.model, {std::nullopt, 2}), Error);
  CHECK_THROWS_AS(write(made.model, {std::nullopt, 5}), Error);
  CHECK_NOTHROW(write(plain.model, {std::nullopt, 4}, 2));
}
