#include "serve/generate.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "autograd/autograd.h"
#include "base/error.h"

using namespace hone;

namespace {

Config small_config(PositionKind positions = positions_named("rotary"), int64_t context = 24) {
  Config c;
  c.context = context;
  c.block.dim = 32;
  c.block.head_dim = 16;
  c.block.positions = positions;
  c.layers.assign(2, {2, 1, 48, "full"});
  return c;
}

// With the head's rows apart, so that no two tokens have almost the same probability, but not so far that one has it
// all.
struct TinyTransformer {
  explicit TinyTransformer(const Config& config = small_config()) : model(config) {
    initialize(model, 3, 0.02);
    for (float& w : model.embedding()->parameter()->value.span<float>()) w *= 20;
    ++model.embedding()->parameter()->version;
  }
  Transformer model;
};

std::vector<int32_t> ids_of(std::string_view text) {
  return byte_tokenizer()->encode(text);
}

// The logits after the last token, without a cache.
Tensor whole(Transformer& model, const std::vector<int32_t>& ids) {
  const NoTape pause;
  const int64_t length = static_cast<int64_t>(ids.size());
  const Var hidden = model.hidden(ids, model.call(Batch::whole(1, length), DType::f32));
  return model.logits(hidden.value().rows(length - 1, 1));
}

GenerateSettings greedy(int64_t tokens) {
  GenerateSettings s;
  s.tokens = tokens;
  s.sampling.temperature = 0;
  s.ignore_end = true;
  return s;
}

Generated run(Transformer& model, std::string_view prompt, const GenerateSettings& settings,
              const std::function<bool(std::string_view)>& on_text = {}, uint64_t seed = 1) {
  return generate(model, *byte_tokenizer(), ids_of(prompt), settings, Random(seed, "sampling"), on_text);
}

}  // namespace

TEST_CASE("greedy generation takes the most probable token each time") {
  TinyTransformer t;
  std::string streamed;
  const Generated result = run(t.model, "Hello", greedy(12), [&](std::string_view text) {
    streamed += text;
    return true;
  });
  std::vector<int32_t> sequence = ids_of("Hello");
  for (const int32_t token : result.tokens) {
    Tensor logits = whole(t.model, sequence);
    logits.data<float>()[document_separator] = -1e30f;
    const auto span = logits.span<float>();
    CHECK(token == std::max_element(span.begin(), span.end()) - span.begin());
    sequence.push_back(token);
  }
  CHECK(result.tokens.size() == 12);
  CHECK(result.finish == Finish::length);
  CHECK(result.prompt_tokens == 5);
  CHECK(streamed == result.text);
}

TEST_CASE("a seed repeats, another gives another text, and the prefill's chunks change nothing") {
  TinyTransformer t;
  GenerateSettings s;
  s.tokens = 18;
  s.sampling.temperature = 3;
  s.ignore_end = true;
  const Generated a = run(t.model, "Once upon a time", s), b = run(t.model, "Once upon a time", s);
  CHECK(a.tokens == b.tokens);
  CHECK(a.tokens != run(t.model, "Once upon a time", s, {}, 2).tokens);
  s.prefill_chunk = 3;
  CHECK(run(t.model, "Once upon a time", s).tokens == a.tokens);
}

TEST_CASE("an empty prompt begins with the separator") {
  TinyTransformer t;
  const Generated result = run(t.model, "", greedy(1));
  Tensor logits = whole(t.model, {document_separator});
  logits.data<float>()[document_separator] = -1e30f;
  const auto span = logits.span<float>();
  CHECK(result.prompt_tokens == 1);
  CHECK(result.tokens.front() == std::max_element(span.begin(), span.end()) - span.begin());
}

TEST_CASE("generation ends at a stop text, at the separator, and when the caller has enough") {
  TinyTransformer t;
  const Generated all = run(t.model, "abc", greedy(16));
  REQUIRE(all.text.size() > 6);
  // Cut at a place that the text has only once: its beginning up to there.
  GenerateSettings s = greedy(16);
  s.stops = {all.text.substr(all.text.size() - 1)};
  const Generated stopped = run(t.model, "abc", s);
  CHECK(stopped.finish == Finish::stop);
  CHECK(stopped.text == all.text.substr(0, all.text.find(s.stops[0])));

  int pieces = 0;
  const Generated interrupted = run(t.model, "abc", greedy(16), [&](std::string_view) { return ++pieces < 3; });
  CHECK(interrupted.finish == Finish::interrupted);
  CHECK(pieces == 3);

  // A model whose every prediction is the separator: zero hidden states give equal logits, and the first is taken.
  TinyTransformer even;
  for (float& w : even.model.embedding()->parameter()->value.span<float>()) w = 0;
  ++even.model.embedding()->parameter()->version;
  GenerateSettings end = greedy(16);
  end.ignore_end = false;
  const Generated ended = run(even.model, "abc", end);
  CHECK(ended.finish == Finish::end);
  CHECK(ended.tokens.empty());
  end.ignore_end = true;
  CHECK(run(even.model, "abc", end).finish == Finish::length);
}

TEST_CASE("rotary positions go on beyond the context, learned ones end the text there") {
  TinyTransformer rotary(small_config(positions_named("rotary"), 8)),
      learned(small_config(positions_named("learned"), 8));
  CHECK(run(rotary.model, "12345", greedy(30)).tokens.size() == 30);
  const Generated result = run(learned.model, "12345", greedy(30));
  CHECK(result.finish == Finish::context);
  CHECK(result.tokens.size() == 4);  // positions 5, 6 and 7, and the token that comes after them
  CHECK(run(learned.model, "12345678", greedy(5)).tokens.size() == 1);
  CHECK_THROWS_AS(run(learned.model, "123456789", greedy(5)), Error);
  CHECK(run(learned.model, "12345", greedy(4)).finish == Finish::length);
  CHECK(run(learned.model, "12345", greedy(0)).tokens.empty());
}

TEST_CASE("streamed text is always whole characters") {
  // Random bytes, since the model is not trained: many are no UTF-8.
  TinyTransformer t;
  GenerateSettings s;
  s.tokens = 200;
  s.sampling.temperature = 100;
  const Generated result = run(t.model, "abc", s, [](std::string_view text) {
    for (size_t i = 0; i < text.size();) {
      const auto lead = static_cast<unsigned char>(text[i]);
      const size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
      CHECK(lead < 0xf8);
      CHECK((lead < 0x80 || lead >= 0xc2));
      CHECK(i + length <= text.size());
      for (size_t k = 1; k < length; ++k) CHECK((static_cast<unsigned char>(text[i + k]) & 0xc0) == 0x80);
      i += length;
    }
    return true;
  });
  CHECK(result.text.find("\xef\xbf\xbd") != std::string::npos);
}
