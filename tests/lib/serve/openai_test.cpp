#include "serve/openai.h"

#include <doctest/doctest.h>

using namespace hone;
using openai::Json;

namespace {

const Tokenizer& bytes() {
  return *byte_tokenizer();
}

openai::Refusal refusal_of(const std::string& body) {
  try {
    openai::read_completions(body, "m", bytes(), PromptReader(Config(), bytes(), 100), 1);
  } catch (const openai::Refusal& refusal) {
    return refusal;
  }
  FAIL("taken: " << body);
  return {};
}

std::vector<ScoredToken> scored(const std::string& text) {
  std::vector<ScoredToken> scores;
  for (const char c : text) scores.push_back({static_cast<unsigned char>(c), -1.0, {}});
  return scores;
}

}  // namespace

TEST_CASE("tokens begin where their first bytes stand in the text, which has U+FFFD for bytes that are no character") {
  openai::LogprobsText logprobs(bytes(), 0);
  // a, half a character, b, a whole one of three bytes, a byte of none, a whole one of two, a third of one, c
  logprobs.add(scored("a\310b\342\202\254\377\303\244\342c"));
  CHECK(logprobs.take(std::nullopt)["text_offset"] == Json({0, 1, 2, 3, 3, 3, 4, 5, 5, 6, 7}));
  logprobs.add(scored("\342"));
  logprobs.end_prompt();  // what follows cannot be its rest
  logprobs.add(scored("\202d"));
  CHECK(logprobs.take(std::nullopt)["text_offset"] == Json({8, 9, 10}));
}

TEST_CASE("log-probabilities are told as far as the text is") {
  openai::LogprobsText logprobs(bytes(), 0);
  logprobs.add(scored("abc"));
  CHECK(logprobs.take("ab")["tokens"] == Json({"a", "b"}));
  CHECK(logprobs.take("ab")["tokens"] == Json::array());
  logprobs.add(scored("d"));
  const Json rest = logprobs.take("abcd");
  CHECK(rest["tokens"] == Json({"c", "d"}));
  CHECK(rest["text_offset"] == Json({2, 3}));
  CHECK(rest["token_logprobs"] == Json({-1.0, -1.0}));
}

TEST_CASE("a refusal names the parameter that is wrong") {
  for (const auto& [member, param] : std::vector<std::pair<std::string, std::string>>{
           {R"("temperature": -1)", "temperature"},
           {R"("top_p": 0)", "top_p"},
           {R"("repetition_penalty": 0)", "repetition_penalty"},
           {R"("top_k": -1)", "top_k"},
           {R"("stream": true, "stream_options": {"include_usage": 1})", "stream_options.include_usage"},
           {R"("stream": true, "stream_options": {"colour": 1})", "stream_options.colour"},
           {R"("best_of": 2)", "best_of"}}) {
    CAPTURE(member);
    const openai::Refusal refusal = refusal_of(R"({"prompt": "x", )" + member + "}");
    CHECK(refusal.status == 400);
    CHECK(refusal.param == param);
  }
  // A value is shown by its beginning.
  CHECK(refusal_of(R"({"prompt": "x", "seed": ")" + std::string(300, 'y') + "\"}").message.size() < 250);
}

TEST_CASE("a body is read up to a depth") {
  const std::string deep = std::string(70, '[') + std::string(70, ']');
  CHECK(refusal_of(R"({"prompt": )" + deep + "}").message == "the body is nested more than 64 levels deep");
  CHECK(refusal_of("{").message == "the body is not JSON");
}
