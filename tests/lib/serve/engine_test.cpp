// What an engine writes is what is written alone.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <utility>

#include "base/error.h"
#include "lib/serve/engine_runs.h"
#include "support/mixers.h"

using namespace hone;
using namespace hone::test;

TEST_CASE("a text does not depend on what is written beside it, for every kind of attention") {
  std::vector<std::string> kinds = causal_mixers();
  kinds.push_back("full,window:70:3,routed:64:2");
  kinds.push_back("conv:4,full");
  uint64_t seed = 1;
  for (const std::string& kind : kinds) {
    CAPTURE(kind);
    int64_t within_blocks = 0;
    for (const DType type : {DType::f32, DType::bf16}) {
      CAPTURE(name_of(type));
      ++seed;
      if (takes_turn(static_cast<int64_t>(seed / 2 + seed), 2))  // under the sanitizers one type a kind, in turn
        within_blocks +=
            check_alike(Tiny(tiny(kind)), of_type(type), seed, rounds_of(26, 16), kind == "full" ? 3 : rounds_of(3, 2));
    }
    if (kind == "full") CHECK(within_blocks > 0);
    if (kind.find("window") != std::string::npos) CHECK(within_blocks == 0);
  }
}

TEST_CASE("nor with experts, packed weights, learned positions and caches of few bits") {
  int64_t turn = 0;  // under the sanitizers each form in one of the models
  for (const char* form : {"bf16", "bf16 sparse", "int8", "int8 sparse", "int4"}) {
    CAPTURE(form);
    if (takes_turn(turn, 2))
      check_alike(Tiny(tiny("full,window:40"), form), of_type(DType::bf16), 21, 14, rounds_of(3, 1));
    if (takes_turn(++turn, 2)) check_alike(Tiny(tiny("full", 4), form), of_type(DType::f32), 22, 14, rounds_of(3, 1));
  }
  check_alike(Tiny(tiny("routed:64:2", 4)), of_type(DType::bf16), 23, 14);
  check_alike(Tiny(tiny("full", 0, positions_named("learned"))), of_type(DType::f32), 24, 14);
  check_alike(Tiny(tiny("full,window:40,routed:64:2")), of_type(DType::bf16, kernels::cache_code_named("int8")), 25,
              20);
  check_alike(Tiny(tiny("full,window:40")), of_type(DType::f32, kernels::cache_code_named("int4")), 26, 14);
}

TEST_CASE("nor with layers that some tokens pass by") {
  int64_t turn = 0;  // under the sanitizers one type a kind, in turn
  for (const char* kind : {"full", "full,window:40", "routed:64:2", "full,conv:4"}) {
    CAPTURE(kind);
    Config config = tiny(kind);
    set_depth_routers(config, std::vector<int64_t>{1, 2}, 0.5);
    Tiny t(config);
    struct Larger : Visitor {  // so that some go through, and some do not
      void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
      void parameter(const ParameterInfo& info, Parameter& parameter) override {
        if (info.role == Role::depth_router)
          for (float& x : parameter.value.span<float>()) x *= 20;
      }
    } larger;
    t.model.visit(larger);
    if (takes_turn(turn, 2)) check_alike(t, of_type(DType::f32), 31, 14, rounds_of(3, 1));
    if (takes_turn(++turn, 2))
      check_alike(t, of_type(DType::bf16, kernels::cache_code_named("int8")), 32, 14, rounds_of(3, 1));
  }
}

TEST_CASE("log-probabilities are those of the model's distribution") {
  const Tiny t(tiny("full"));
  Request r;
  for (int32_t i = 0; i < 90; ++i) r.prompt.push_back(1 + i * 5 % 200);
  r.tokens = 3;
  r.sampling.temperature = 0;
  r.logprobs = 2;
  r.score_prompt = true;
  r.ignore_end = true;
  const Completion c = run(t, of_type(DType::f32), {r}, 1).at(0);
  REQUIRE(c.prompt_scores.size() == 89);
  std::vector<int32_t> ids = r.prompt;
  ids.insert(ids.end(), c.tokens.begin(), c.tokens.end());
  const NoTape pause;
  const int64_t length = static_cast<int64_t>(ids.size());
  const Tensor logits = t.model.logits(t.model.hidden(ids, t.model.call(Batch::whole(1, length), DType::f32)).value());
  for (size_t i = 1; i < ids.size(); ++i) {
    const auto row = logits.rows(static_cast<int64_t>(i) - 1, 1).span<float>();
    double total = 0;
    for (const float x : row) total += std::exp(static_cast<double>(x));
    const ScoredToken& s = i < 90 ? c.prompt_scores[i - 1] : c.scores[i - 90];
    CHECK(s.token == ids[i]);
    CHECK(s.logprob ==
          doctest::Approx(static_cast<double>(row[static_cast<size_t>(ids[i])]) - std::log(total)).epsilon(1e-4));
    REQUIRE(s.top.size() == 2);
    CHECK(s.top[0].second >= s.top[1].second);
    CHECK(s.top[0].second ==
          doctest::Approx(static_cast<double>(*std::ranges::max_element(row)) - std::log(total)).epsilon(1e-4));
  }
}

TEST_CASE("the beginning of a prompt is read once") {
  for (const char* kind : {"full", "window:24:3", "routed:64:2"}) {
    CAPTURE(kind);
    const Tiny t(tiny(kind));
    Request r;
    r.prompt.assign(200, 7);
    r.tokens = 2;
    EngineStats stats;
    run(t, of_type(DType::f32), {r, r, r}, 1, {}, &stats);
    CHECK(stats.prompt_tokens == 200 + 2 * (200 - 192));
    CHECK(stats.cached_tokens == 2 * 192);
    Request other = r;  // which leaves the first one in its second page: only what is beside pages may have to be read
    std::fill(other.prompt.begin() + 100, other.prompt.end(), 9);
    run(t, of_type(DType::f32), {r, other, other}, 1, {}, &stats);
    CHECK(stats.cached_tokens == (std::string(kind) == "full" ? 96 + 192 : 192));
    EngineSettings large = of_type(DType::f32);
    large.page_rows = 128;  // of the second page the first half is copied
    Request longer = r;
    longer.prompt.assign(280, 7);
    run(t, large, {longer, r, r}, 1, {}, &stats);
    CHECK(stats.cached_tokens == (std::string(kind) == "full" ? 2 * 192 : 128));
    // Less than a page: of 41 tokens those that share no lanes with what follows.
    Request shorter = r, next = r;
    shorter.prompt.assign(41, 7);
    next.prompt.assign(90, 7);
    run(t, of_type(DType::f32), {shorter, shorter, next, next}, 1, {}, &stats);
    CHECK(stats.cached_tokens == (std::string(kind) == "full" ? 32 + 32 + 80 : 64));
  }
}

namespace {

// Bytes, with another separator than theirs.
struct OtherSeparator : Tokenizer {
  explicit OtherSeparator(int32_t id) : id_(id) {}
  int32_t vocabulary() const override { return byte_tokenizer()->vocabulary(); }
  std::string_view text_of(int32_t id) const override { return byte_tokenizer()->text_of(id); }
  std::unique_ptr<Encoder> encoder() const override { return byte_tokenizer()->encoder(); }
  std::string name() const override { return "other"; }
  nlohmann::json to_json() const override { return {}; }
  int32_t separator() const override { return id_; }
  int32_t id_;
};

}  // namespace

TEST_CASE("a text begins behind its tokenizer's separator and ends with it, which is scored, too") {
  const Tiny t(tiny("full"));
  for (const int32_t separator : {0, 1, 77}) {
    CAPTURE(separator);
    const OtherSeparator tokenizer(separator);
    Engine engine(t.model, tokenizer, of_type(DType::f32));
    std::vector<Completion> done(40);
    for (size_t i = 0; i < done.size(); ++i) {
      Request r;
      if (i % 2) r.prompt = {5, 6};
      r.tokens = 60;
      r.random = Random(i, "sampling");
      r.sampling.temperature = 3;
      r.ignore_end = i % 8 > 5;
      r.logprobs = 1;
      r.on_done = [&done, i](const Completion& c) { done[i] = c; };
      engine.submit(std::move(r));
    }
    while (engine.step()) {
    }
    int64_t ended = 0;
    for (size_t i = 0; i < done.size(); ++i) {
      GenerateSettings g;
      g.tokens = 60;
      g.sampling.temperature = 3;
      g.ignore_end = i % 8 > 5;
      const std::vector<int32_t> prompt = i % 2 ? std::vector<int32_t>{5, 6} : std::vector<int32_t>();
      const Generated alone = generate(t.model, tokenizer, Input(prompt), g, Random(i, "sampling"));
      CHECK(done[i].tokens == alone.tokens);
      CHECK(done[i].finish == alone.finish);
      CHECK(done[i].prompt_tokens == alone.prompt_tokens);
      const bool at_end = alone.finish == Finish::end;
      REQUIRE(done[i].scores.size() == alone.tokens.size() + at_end);
      if (at_end) CHECK(done[i].scores.back().token == separator);
      ended += at_end;
    }
    CHECK(ended > 3);
    CHECK(ended < 32);
  }
}
