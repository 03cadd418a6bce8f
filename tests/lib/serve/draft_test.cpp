#include "serve/draft.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/kind_name.h"
#include "serve/generate.h"
#include "support/mixers.h"
#include "support/turns.h"

using namespace hone;

namespace {

Config shape(const std::string& attention = "full", int64_t layers = 3) {
  Config c;
  c.context = 200;
  c.block.dim = 32;
  c.block.head_dim = 16;
  c.layers.assign(static_cast<size_t>(layers), {2, 1, 48, "full"});
  set_attention(c, attention);
  return c;
}

// With the head's rows apart, so that tokens differ in probability.
struct Made {
  explicit Made(const Config& config, uint64_t seed = 3) : model(config) {
    initialize(model, seed, 0.05);
    for (float& w : model.embedding()->parameter()->value.span<float>()) w *= 8;
    ++model.embedding()->parameter()->version;
  }
  Transformer model;
};

GenerateSettings settings(double temperature, int64_t tokens) {
  GenerateSettings s;
  s.tokens = tokens;
  s.sampling.temperature = temperature;
  s.ignore_end = true;
  return s;
}

const std::vector<int32_t> some_text = byte_tokenizer()->encode("abcabcabc");

Generated write(const Transformer& model, const GenerateSettings& s, uint64_t seed = 1,
                const std::vector<int32_t>& prompt = some_text) {
  return generate(model, *byte_tokenizer(), prompt, s, Random(seed, "sampling"));
}

// All kinds, drafting however unsure.
std::vector<DraftSettings> all_kinds(const Transformer& other) {
  std::vector<DraftSettings> kinds;
  for (const std::string& example : draft_examples()) kinds.push_back({.kind = example, .min_probability = 0});
  kinds.push_back({.kind = "self:2", .tokens = 3, .min_probability = 0});
  kinds.push_back({.kind = "model", .model = &other, .min_probability = 0});
  return kinds;
}

ErrorKind refusal(const DraftSettings& draft, const Transformer& target) {
  try {
    check(draft, target);
  } catch (const Error& error) {
    return error.kind();
  }
  return ErrorKind::internal;
}

}  // namespace

TEST_CASE("greedy text is the same whoever drafts, for every kind of attention") {
  int64_t first_turn = 0;
  for (const std::string& attention : hone::test::causal_mixers()) {
    int64_t turn = first_turn++;
    for (const DType type : {DType::f32, DType::bf16}) {
      if (!hone::test::takes_turn(turn++, 2)) continue;  // under the sanitizers one type a kind, in turn
      CAPTURE(attention);
      const Made made(shape(attention + ",full")), other(shape("full", 1), 4);
      GenerateSettings s = settings(0, 90);
      s.type = type;
      const Generated alone = write(made.model, s);
      CHECK(alone.drafted == 0);
      CHECK(alone.steps == 89);
      // A model drafts best for itself.
      std::vector<DraftSettings> drafts = all_kinds(other.model);
      drafts.push_back({.kind = "model", .model = &made.model, .min_probability = 0});
      for (const DraftSettings& draft : drafts) {
        CAPTURE(draft.kind);
        s.draft = draft;
        const Generated drafted = write(made.model, s);
        CHECK(drafted.tokens == alone.tokens);
        CHECK(drafted.text == alone.text);
        CHECK(drafted.drafted > 0);
        CHECK(drafted.accepted <= drafted.drafted);
        CHECK(drafted.steps + drafted.accepted >= 89);
      }
      CHECK(s.draft.model == &made.model);
      const Generated own = write(made.model, s);
      CHECK(own.accepted == own.drafted);  // few: one that costs as much as the model never gains
    }
  }
}

TEST_CASE("a stop, the end of positions and the number of tokens end drafted text where they end other text") {
  Config config = shape();
  config.block.positions = positions_named("learned");
  config.context = 40;
  const Made made(config);
  GenerateSettings s = settings(0, 60);
  GenerateSettings drafting = s;
  drafting.draft = {.kind = "model", .model = &made.model, .min_probability = 0};
  const Generated alone = write(made.model, s);
  CHECK(alone.finish == Finish::context);
  CHECK(write(made.model, drafting).finish == Finish::context);
  CHECK(write(made.model, drafting).tokens == alone.tokens);
  for (int64_t tokens = 1; tokens < 12; ++tokens) {
    s.tokens = drafting.tokens = tokens;
    CHECK(write(made.model, drafting).tokens == write(made.model, s).tokens);
  }
  s.tokens = drafting.tokens = 30;
  s.stops = drafting.stops = {alone.text.substr(7, 1)};
  CHECK(write(made.model, drafting).text == write(made.model, s).text);
  CHECK(write(made.model, drafting).finish == Finish::stop);
}

// Chi-square of the three tokens of many texts against their probabilities without drafts, which are known exactly:
// top-k leaves 64 texts.
TEST_CASE("sampled text has the distribution of text without drafts") {
  Config small = shape("full", 2), smaller = shape("full", 1);
  for (Config* config : {&small, &smaller}) config->vocabulary = config->padded_vocabulary = 16;
  const Made made(small), other(smaller, 9);
  constexpr int n = 3000;
  GenerateSettings s = settings(8, 3);
  s.sampling.top_k = 4;
  std::vector<int32_t> prompt;  // every token that may follow has been there: the lookup finds it
  for (int32_t id = 1; id < 16; ++id) prompt.push_back(id);
  std::map<std::vector<int32_t>, double> expected;
  {
    const auto spread = [&](auto&& self, std::vector<int32_t> text, double p) -> void {
      if (text.size() == prompt.size() + 3) {
        expected[{text.begin() + static_cast<ptrdiff_t>(prompt.size()), text.end()}] = p;
        return;
      }
      Session session(made.model, {1, 20});
      Sampler sampler(s.sampling, Random(1, "x"));
      const Tensor logits = session.feed(std::span<const int32_t>(text));
      const Distribution d = sampler.distribution(logits.span<float>(), text, document_separator);
      for (size_t i = 0; i < d.ids.size(); ++i) {
        std::vector<int32_t> longer = text;
        longer.push_back(d.ids[i]);
        self(self, longer, p * d.weights[i] / d.total);
      }
    };
    spread(spread, prompt, 1);
  }
  CHECK(expected.size() == 64);
  for (const DraftSettings& draft : all_kinds(other.model)) {
    if (draft.kind == "self:2") continue;  // of a model of two layers
    s.draft = draft;
    if (draft.kind == "ngram:2") s.draft.kind = "ngram:1";
    CAPTURE(s.draft.kind);
    std::map<std::vector<int32_t>, int> found;
    int64_t drafted = 0;
    for (int i = 0; i < n; ++i) {
      s.draft_seed = static_cast<uint64_t>(i) + 1;
      const Generated result = write(made.model, s, static_cast<uint64_t>(i) + 1, prompt);
      ++found[result.tokens];
      drafted += result.drafted;
    }
    CHECK(drafted > n / 4);
    double chi = 0, cells = 0, rest_expected = 0, rest_found = 0;
    for (const auto& [tokens, p] : expected) {
      const double want = p * n, got = found.contains(tokens) ? found.at(tokens) : 0;
      if (want < 5) {
        rest_expected += want, rest_found += got;
        continue;
      }
      chi += (got - want) * (got - want) / want;
      ++cells;
    }
    if (rest_expected > 0) chi += (rest_found - rest_expected) * (rest_found - rest_expected) / rest_expected, ++cells;
    CHECK(cells > 10);
    // 1 in 10^5 by Wilson and Hilferty's approximation.
    const double k = cells - 1, bound = k * std::pow(1 - 2 / (9 * k) + 4.27 * std::sqrt(2 / (9 * k)), 3);
    CHECK(chi < bound);
  }
}

TEST_CASE("a token that was drafted stands as often as it may") {
  Sampler sampler({.temperature = 1}, Random(3, "x"));
  const Distribution wanted{{1, 2, 3}, {0.5, 0.3, 0.2}, 1}, guess{{1, 2}, {2, 6}, 8};  // guess: 0.25, 0.75
  std::map<int32_t, int> found;
  int stood = 0;
  constexpr int n = 40000;
  for (int i = 0; i < n; ++i) {
    const int32_t drafted = sampler.draw(guess), token = sampler.verify(wanted, drafted, guess);
    stood += token == drafted;
    ++found[token];
  }
  for (size_t i = 0; i < 3; ++i)
    CHECK(found[wanted.ids[i]] / static_cast<double>(n) == doctest::Approx(wanted.weights[i]).epsilon(0.03));
  CHECK(stood / static_cast<double>(n) == doctest::Approx(0.25 + 0.3).epsilon(0.03));  // the sum of the lesser ones
}

namespace {

// Tokens that are drafted in so many steps, where always or never as many are accepted as were asked for.
int64_t drafted_in(DraftLength& length, int steps, bool accepted) {
  int64_t drafted = 0;
  for (int i = 0; i < steps; ++i) {
    const int64_t count = length.next(7);
    length.took(count, accepted ? count : 0);
    drafted += count;
  }
  return drafted;
}

}  // namespace

TEST_CASE("the number of drafted tokens follows what is accepted, and none is drafted for nothing") {
  DraftLength good(7, {0.05, 0.05}), bad(7, {0.05, 0.05}), dear(7, {2.0, 2.0});
  drafted_in(good, 40, true);
  CHECK(good.next(7) == 7);
  CHECK(good.next(3) == 3);
  CHECK(good.next(0) == 0);
  CHECK(drafted_in(bad, 64, false) < 8);  // short texts must not pay for it either
  CHECK(drafted_in(bad, 936, false) < 8);
  int64_t until = 0;  // it learns again, behind the longest pause at most
  while (until < 1000 && drafted_in(bad, 1, true) == 0) ++until;
  CHECK(until <= 512);
  CHECK(drafted_in(bad, 40, true) > 100);
  CHECK(drafted_in(dear, 500, true) < 10);  // a drafter that costs twice the model never gains
}

TEST_CASE("a drafter that is always unsure is asked ever more rarely") {
  for (const double cost : {0.05, 0.3, 0.9}) {
    CAPTURE(cost);
    DraftLength unsure(7, {cost, cost});
    int64_t asked = 0, first = 0;
    for (int step = 0; step < 1000; ++step) {
      asked += unsure.next(7) > 0;
      unsure.took(0, 0);
      if (step == 63) first = asked;
    }
    CHECK(static_cast<double>(first) * cost < 0.045 * 64);
    CHECK(static_cast<double>(asked) * cost < 0.01 * 1000);
    CHECK(asked > 3);  // and still is
  }
  DraftLength lookup(7, {});  // finds nothing, which costs nothing
  for (int step = 0; step < 100; ++step) {
    CHECK(lookup.next(7) > 0);
    lookup.took(0, 0);
  }
  DraftLength behind(7, {0.3, 0.3, 5});  // and dear where it must read first what it missed
  int64_t asked = 0;
  for (int step = 0; step < 1000; ++step) {
    asked += behind.next(7) > 0;
    behind.took(0, 0);
  }
  CHECK(asked <= 4);
}

TEST_CASE("a lookup goes on in what it has drafted") {
  const Made made(shape());
  Session session(made.model, {1, 20});
  const auto drafter = make_drafter({.kind = "ngram:2"}, made.model, session, {}, 1, -1);
  std::vector<int32_t> ids;
  for (const Drafted& d : drafter->propose(std::vector<int32_t>{9, 5, 6, 7, 5, 6, 7, 5, 6}, 7)) ids.push_back(d.token);
  CHECK(ids == std::vector<int32_t>{7, 5, 6, 7, 5, 6, 7});
}

TEST_CASE("a model that drafts reads the prompt first, and of what it missed only the end") {
  const Made made(shape()), other(shape("full", 1), 4);
  Session session(made.model, {1, 300});
  const DraftSettings draft = {.kind = "model", .model = &other.model, .min_probability = 0};
  const auto drafter = make_drafter(draft, made.model, session, {.temperature = 0}, 1, -1);
  std::vector<int32_t> text;
  for (int32_t i = 0; i < 250; ++i) text.push_back(1 + i * i * 7 % 255);
  const auto likeliest = [&](std::span<const int32_t> ids) {
    Session reader(other.model, {1, 300});
    const Tensor logits = reader.feed(ids);
    const auto all = logits.span<float>();
    return static_cast<int32_t>(std::ranges::max_element(all) - all.begin());
  };
  const std::span<const int32_t> all = text;
  drafter->read_prompt(all.first(30), 512);
  CHECK(drafter->propose(all.first(31), 2).at(0).token == likeliest(all.first(31)));
  CHECK(drafter->propose(all.first(60), 2).at(0).token == likeliest(all.first(60)));
  CHECK(drafter->propose(all, 1).at(0).token == likeliest(all.last(64)));
  CHECK(drafter->propose(all, 1).at(0).token == likeliest(all.last(64)));
  // A long text with such pauses is the model's.
  GenerateSettings s = settings(0, 500);
  const Generated alone = write(made.model, s);
  s.draft = draft;
  const Generated drafted = write(made.model, s);
  CHECK(drafted.tokens == alone.tokens);
  CHECK(drafted.drafted > 1);
  CHECK(drafted.accepted <= drafted.verified);
  CHECK(drafted.verified <= drafted.drafted);
}

TEST_CASE("drafts that cannot be made are refused") {
  const Made made(shape()), other([] {
    Config c = shape();
    c.vocabulary = c.padded_vocabulary = 300;
    return c;
  }());
  for (const char* kind :
       {"", "none", "ngram:", "ngram:x", "ngram:0", "ngram:65", "self", "self:0", "self:3", "self:1:2", "model"}) {
    CAPTURE(kind);
    CHECK(refusal({.kind = kind}, made.model) == ErrorKind::usage);
  }
  CHECK(refusal({.kind = "ngram", .tokens = 8}, made.model) == ErrorKind::usage);
  CHECK(refusal({.kind = "ngram", .tokens = 0}, made.model) == ErrorKind::usage);
  CHECK(refusal({.kind = "ngram", .min_probability = 1.5}, made.model) == ErrorKind::usage);
  CHECK(refusal({.kind = "model", .model = &other.model}, made.model) == ErrorKind::usage);
  CHECK_NOTHROW(check({.kind = "self:2"}, made.model));
  REQUIRE(draft_examples().size() == draft_kinds().size());
  for (size_t i = 0; i < draft_kinds().size(); ++i) {
    const std::string example = draft_examples()[i];
    CAPTURE(example);
    CHECK(first_word(example) == first_word(draft_kinds()[i]));
    CHECK(is_draft_kind(example));
    CHECK_NOTHROW(check({.kind = example}, made.model));
  }
  CHECK(is_draft_kind("self:4"));
  CHECK(!is_draft_kind("model"));
  CHECK(!is_draft_kind("small.h5"));
  for (const char* sure : {"self:4", "small.h5", "ngram.h5", "model"}) CHECK(draft_knows_probabilities(sure));
  for (const char* guess : {"ngram", "ngram:2"}) CHECK(!draft_knows_probabilities(guess));
}
