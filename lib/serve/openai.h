// Requests and answers in the form of OpenAI's completions (platform.openai.com/docs/api-reference/completions).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "dataset/examples.h"
#include "dataset/tokenizer.h"
#include "serve/prompt.h"
#include "serve/request.h"

namespace hone::openai {

using Json = nlohmann::ordered_json;

// An answer that is an error: an HTTP status and the object that goes with it.
struct Refusal {
  int status = 400;
  std::string message;
  std::string param;  // the parameter that is wrong, or empty
  std::string code;   // such as "model_not_found", or empty
};
Json json_of(const Refusal& refusal);

// What a body asks for: `choices` requests for each prompt.
struct Completions {
  std::vector<std::string> prompts;          // as text, for `echo`
  std::vector<std::vector<int32_t>> tokens;  // of each prompt, rows of its images and sounds among them
  Request all;                               // what they share, media of the only prompt with it
  int64_t choices = 1;
  bool stream = false, echo = false, usage_in_stream = false;
  int64_t logprobs = -1;
  uint64_t seed = 0;

  // In the order of the choices' indices.
  std::vector<Request> requests() const;
};

// Throws Refusal: for JSON that is none, another model, parameters that are unknown, of another kind, out of range, or
// that would change what is generated and cannot be served; for parts that cannot be read. `seed`: of a request without
// one.
Completions read_completions(const std::string& body, const std::string& model, const Tokenizer& tokenizer,
                             const PromptReader& prompts, uint64_t seed);

// The parts of a prompt (openai_parts.cpp has their forms), with what files they hold beside them. Nothing is opened or
// fetched that a part names. Throws Refusal, with the part as its parameter.
std::vector<ExamplePart> read_content(const nlohmann::json& parts);

// The object that choices of one answer, or of one event of a stream, share.
struct Answer {
  std::string id, model;
  int64_t created = 0;

  Json object(Json choices) const;
};

// Writes the log-probabilities of a choice: tokens, and where each begins in its text, prompt included.
class LogprobsText {
 public:
  LogprobsText(const Tokenizer& tokenizer, int64_t top) : tokenizer_(tokenizer), top_(top) {}
  // `first`: the prompt's first token, which nothing predicts.
  void add_first(int32_t token);
  void add(const std::vector<ScoredToken>& scores);
  void end_prompt();  // the text begins anew behind it: a character does not go from one into the other
  // Those since the last call: all, or those that begin within this text. What a stop text is made of begins behind it.
  Json take(const std::optional<std::string>& within);

 private:
  struct Line {
    std::string token;
    int64_t offset;
    Json logprob, top;
  };
  void add_token(int32_t token, Json logprob, Json top);

  const Tokenizer& tokenizer_;
  int64_t top_, offset_ = 0;
  std::string pending_;  // bytes of a character that is not whole yet, which stands at `offset_`
  std::vector<Line> lines_;
};

Json choice(int64_t index, const std::string& text, const Json& logprobs, const char* finish_reason);
const char* finish_reason(Finish finish);  // null where it was interrupted
Json usage(int64_t prompt, int64_t completion, int64_t cached);

}  // namespace hone::openai
