#include "model/session.h"

#include <doctest/doctest.h>

#include <cmath>

#include "base/error.h"
#include "support/check.h"
#include "support/mixers.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;

namespace {

Config learned_config() {
  Config c = small_config();
  c.block.positions = positions_named("learned");
  c.block.biases = true;
  return c;
}

// Norms of queries and keys, a soft cap of scores in one layer of two, and one of logits.
Config capped_config(const std::string& kinds = "full") {
  Config c = small_config();
  c.context = 300;
  set_attention(c, kinds);
  for (LayerBlueprint& layer : c.layers) layer.qk_norm = true;
  c.layers[1].score = "softcap:1.5";
  c.logit_softcap = 2;
  return c;
}

// Without positions but by the distances that scores see.
Config alibi_config(const std::string& kinds = "full") {
  Config c = small_config();
  c.context = 300;
  c.block.positions = positions_named("none");
  set_attention(c, kinds);
  for (LayerBlueprint& layer : c.layers) layer.score = "alibi";
  return c;
}

Config attending(const std::string& kinds) {
  Config c = small_config();
  c.context = 300;
  set_attention(c, kinds);
  return c;
}

Transformer& initialized(Transformer& model) {
  initialize(model, 3, 0.2);  // so that what attention sees makes a difference
  return model;
}

std::span<const int32_t> part(const std::vector<int32_t>& ids, int64_t begin, int64_t count) {
  return std::span(ids).subspan(static_cast<size_t>(begin), static_cast<size_t>(count));
}

// The logits after the last token, without a state.
Tensor whole(const Transformer& model, std::span<const int32_t> ids) {
  const NoTape pause;
  const int64_t length = static_cast<int64_t>(ids.size());
  const Var hidden = model.hidden(ids, model.call(Batch::whole(1, length), DType::f32));
  return model.logits(hidden.value().rows(length - 1, 1));
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return std::ranges::equal(a.span<float>(), b.span<float>());
}

}  // namespace

TEST_CASE("feeding in chunks, token by token and at once gives the logits of a run without a state") {
  for (const Config& config :
       {small_config(), learned_config(), capped_config(), capped_config("window:8:2"), capped_config("routed:64:2"),
        alibi_config(), alibi_config("window:8"), alibi_config("window:8:2"), alibi_config("routed:64:2")}) {
    Transformer model(config);
    initialized(model);
    const int64_t length = std::min<int64_t>(config.context, 200);  // of several blocks, and past the ends of rings
    const std::vector<int32_t> ids = some_ids(length);
    const Tensor expected = whole(model, ids);
    for (const int64_t chunk : {1, 7, 16, 512}) {
      Session session(model, {1, length});
      const Tensor logits = session.feed(std::span<const int32_t>(ids), chunk);
      CHECK(logits.shape() == Shape{1, 50});
      CHECK(session.length() == length);
      CHECK(relative_error(logits, expected) < 1e-4);
    }
  }
}

TEST_CASE("a cache of codes changes logits a little, and alike however a sequence is cut") {
  for (const char* kinds : {"full", "window:8:2", "routed:64:2"}) {
    Transformer model(attending(kinds));
    initialized(model);
    const std::vector<int32_t> ids = some_ids(200);
    const Tensor expected = whole(model, ids);
    for (const kernels::CacheCode code : kernels::all_cache_codes) {
      CAPTURE(std::string(info_of(code).name));
      const bool eight = info_of(code).bytes >= info_of(code).numbers;  // a byte a number
      Tensor first;
      for (const int64_t chunk : {512, 1, 33}) {
        Session session(model, {.sequences = 1, .capacity = 200, .code = code});
        const Tensor logits = session.feed(std::span<const int32_t>(ids), chunk);
        CHECK(relative_error(logits, expected) < (eight ? 0.05 : 0.5));
        CHECK(relative_error(logits, expected) > 1e-4);
        if (first) CHECK(relative_error(logits, first) < (eight ? 0.01 : 0.1));
        first = logits;
      }
    }
  }
}

TEST_CASE("a soft cap bounds logits, one of scores and norms of heads change them, and codes hold what was normed") {
  const std::vector<int32_t> ids = some_ids(70);
  const Config all = capped_config();
  Config logits_alone = small_config(), without = all;
  logits_alone.logit_softcap = 2;
  without.layers[1].score.clear();
  Transformer plain(small_config()), capped(logits_alone), model(all), scores_as_they_are(without);
  for (Transformer* m : {&plain, &capped, &model, &scores_as_they_are}) initialized(*m);
  const Tensor expected = whole(plain, ids);
  for (float& x : expected.span<float>()) x = 2 * std::tanh(x / 2);
  CHECK(relative_error(whole(capped, ids), expected) < 1e-5);
  CHECK(relative_error(whole(model, ids), whole(capped, ids)) > 0.01);
  CHECK(relative_error(whole(model, ids), whole(scores_as_they_are, ids)) > 1e-3);
  Session session(model, {.sequences = 1, .capacity = 70, .code = kernels::cache_code_named("int8")});
  CHECK(relative_error(session.feed(std::span<const int32_t>(ids), 1), whole(model, ids)) < 0.05);
}

TEST_CASE("what scores see of positions is what tells the order of tokens, and there is a way to have none") {
  std::vector<int32_t> ids = some_ids(70);
  Config config = alibi_config();
  config.layers.pop_back();  // one layer: what the last token sees without positions is a set
  Transformer ordered(config);
  config.layers.front().score.clear();
  Transformer without(config);
  for (Transformer* model : {&ordered, &without}) initialized(*model);
  const Tensor before[] = {whole(ordered, ids), whole(without, ids)};
  std::reverse(ids.begin(), ids.end() - 1);
  CHECK(relative_error(whole(ordered, ids), before[0]) > 1e-3);
  CHECK(relative_error(whole(without, ids), before[1]) < 1e-4);
}

TEST_CASE("sequences of a batch do not see each other, and clear() forgets") {
  Transformer model(small_config());
  initialized(model);
  const std::vector<int32_t> both = some_ids(28);
  Session session(model, {2, 20});
  for (int round = 0; round < 2; ++round) {
    const Tensor logits = session.feed(std::span<const int32_t>(both), 5);
    CHECK(relative_error(logits.rows(0, 1), whole(model, part(both, 0, 14))) < 1e-4);
    CHECK(relative_error(logits.rows(1, 1), whole(model, part(both, 14, 14))) < 1e-4);
    session.clear();
    CHECK(session.length(1) == 0);
  }
}

TEST_CASE("pieces of different lengths and phases, in any order, are what each sequence gives alone") {
  const std::vector<int32_t> ids = some_ids(600);
  for (const std::string& kind : causal_mixers())
    for (const DType type : {DType::f32, DType::bf16}) {
      CAPTURE(kind);
      Transformer model(attending(kind + ",full"));
      initialized(model);
      Session together(model, {4, 150, type});
      std::vector<std::unique_ptr<Session>> alone;
      for (int s = 0; s < 4; ++s) alone.push_back(std::make_unique<Session>(model, StateShape{1, 150, type}));
      // Lengths of the pieces of each sequence in four calls; 0: not in this call.
      const int64_t calls[4][4] = {{130, 3, 0, 70}, {1, 66, 0, 1}, {1, 1, 90, 1}, {5, 1, 1, 64}};
      int64_t done[4] = {};
      for (const auto& lengths : calls) {
        std::vector<Session::Piece> pieces;
        std::vector<Tensor> expected;
        for (const int64_t s : {2, 0, 3, 1}) {
          if (lengths[s] == 0) continue;
          const auto piece = part(ids, s * 150 + done[s], lengths[s]);
          done[s] += lengths[s];
          pieces.push_back({s, piece});
          expected.push_back(alone[static_cast<size_t>(s)]->feed(piece));
        }
        const Tensor logits = together.feed(pieces);
        for (size_t i = 0; i < pieces.size(); ++i) {
          CAPTURE(pieces[i].sequence);
          CHECK(together.length(pieces[i].sequence) == done[pieces[i].sequence]);
          CHECK(relative_error(logits.rows(static_cast<int64_t>(i), 1), expected[i]) <
                (type == DType::f32 ? 1e-4 : 0.03));
        }
      }
    }
}

TEST_CASE("tokens that are taken back leave no trace, in windows that have wrapped and in summaries, too") {
  const std::vector<int32_t> ids = some_ids(400);
  for (const std::string& kind : causal_mixers())
    for (const DType type : {DType::f32, DType::bf16})
      for (const int64_t before : {3, 20, 70, 129, 200}) {
        CAPTURE(kind);
        CAPTURE(before);
        Transformer model(attending(kind));
        initialized(model);
        constexpr int64_t back = 9;
        Session straight(model, {2, 260, type, back}), other(model, {2, 260, type, back});
        const Session::Piece start{1, part(ids, 0, before)}, wrong{1, part(ids, 300, back)};
        const Session::Piece next{1, part(ids, before, 1)}, more{1, part(ids, before + 1, 40)};
        straight.feed(std::span(&start, 1));
        other.feed(std::span(&start, 1));
        other.feed(std::span(&wrong, 1), before % 2 ? 512 : 1);
        other.truncate(1, before);
        CHECK(other.length(1) == before);
        for (const Session::Piece& piece : {next, more})
          CHECK(same_bits(straight.feed(std::span(&piece, 1)), other.feed(std::span(&piece, 1))));
      }
}

TEST_CASE("a ring gives back as many tokens as it was made for, and everything can be forgotten") {
  Transformer model(attending("window:24:3"));
  initialized(model);
  const std::vector<int32_t> ids = some_ids(100);
  Session session(model, {1, 200, DType::f32, 5});
  session.feed(std::span<const int32_t>(ids));
  CHECK_THROWS_AS(session.truncate(0, 94), Error);
  CHECK(session.length() == 100);
  CHECK_NOTHROW(session.truncate(0, 95));
  CHECK_NOTHROW(session.truncate(0, 0));
  CHECK(relative_error(session.feed(std::span<const int32_t>(ids)), whole(model, ids)) < 1e-4);
  Transformer full(attending("full"));
  initialized(full);
  Session all(full, {1, 200});
  all.feed(std::span<const int32_t>(ids));
  CHECK_NOTHROW(all.truncate(0, 1));  // what is all there needs no room
}

TEST_CASE("a session refuses ids outside the vocabulary, more tokens than it has room for, and too much memory") {
  Transformer model(small_config());
  initialized(model);
  Session session(model, {1, 4});
  const auto feed = [&](std::vector<int32_t> ids) { session.feed(std::span<const int32_t>(ids)); };
  CHECK_THROWS_AS(feed({50}), Error);
  CHECK_THROWS_AS(feed({-1}), Error);
  CHECK_THROWS_AS(feed({1, 2, 3, 4, 5}), Error);
  CHECK(session.length() == 0);
  CHECK_THROWS_AS(Session(model, {1, int64_t{1} << 50}), Error);
  const std::vector<int32_t> one = {1};
  const Session::Piece twice[] = {{0, one}, {0, one}};
  CHECK_THROWS_AS(session.feed(twice), Error);
}

TEST_CASE("hidden states of all tokens come in order, whatever the chunk") {
  Transformer model(small_config());
  initialized(model);
  const std::vector<int32_t> ids = some_ids(60);
  const NoTape pause;
  const Tensor expected = model.hidden(ids, model.call(Batch::whole(2, 30), DType::f32)).value();
  for (const int64_t chunk : {1, 13, 30}) {
    Session session(model, {2, 30});
    CHECK(relative_error(session.hidden(ids, chunk), expected) < 1e-4);
  }
}

TEST_CASE("what waits behind the first layers is what goes through all at once") {
  const std::vector<int32_t> ids = some_ids(80);
  for (const std::string& kind : causal_mixers())
    for (const DType type : {DType::f32, DType::bf16}) {
      CAPTURE(kind);
      Transformer model(attending(kind + ",full"));
      initialized(model);
      constexpr int64_t first = 50, layers = 1;
      Session straight(model, {1, 80, type, 8}), other(model, {1, 80, type, 8});
      straight.feed(part(ids, 0, first));
      other.feed(part(ids, 0, first));
      for (int round = 0; round < 2; ++round) {
        for (int64_t t = first; t < first + 3; ++t) CHECK(other.shallow(part(ids, t, 1), layers).dim(0) == 1);
        CHECK(other.length() == first);
        CHECK_THROWS_AS(other.shallow(part(ids, 60, 1), layers + 1), Error);
        if (round == 0) other.truncate(0, first);  // and once more
      }
      const Tensor deep = other.hidden(part(ids, first, 5)), expected = straight.hidden(part(ids, first, 5));
      CHECK(other.length() == first + 5);
      CHECK(deep.shape() == expected.shape());
      CHECK(relative_error(model.logits(deep), model.logits(expected)) < (type == DType::f32 ? 1e-5 : 0.02));
      CHECK(relative_error(other.feed(part(ids, first + 5, 1)), straight.feed(part(ids, first + 5, 1))) <
            (type == DType::f32 ? 1e-5 : 0.02));
    }
}

// What drafts rest on: text that is verified several tokens at once is the text of one token at a time.
TEST_CASE("up to eight tokens at once give the bits of one after another") {
  const std::vector<int32_t> ids = some_ids(150);
  for (const std::string& kind : causal_mixers())
    for (const DType type : {DType::f32, DType::bf16})
      for (const int64_t count : {2, 5, 8}) {
        CAPTURE(kind);
        CAPTURE(name_of(type));
        CAPTURE(count);
        Config config = attending(kind + ",full");
        config.layers[1].score = "alibi";
        Transformer model(config);
        initialized(model);
        Session once(model, {1, 150, type, 8}), one_by_one(model, {1, 150, type, 8});
        once.feed(part(ids, 0, 100));
        one_by_one.feed(part(ids, 0, 100));
        const Tensor logits = model.logits(once.hidden(part(ids, 100, count)));
        for (int64_t t = 0; t < count; ++t) {
          CAPTURE(t);
          CHECK(same_bits(logits.rows(t, 1), one_by_one.feed(part(ids, 100 + t, 1))));
        }
      }
}
