#include "serve/openai.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "dataset/utf8.h"

namespace hone::openai {
namespace {

using nlohmann::json;

constexpr int64_t most_choices = 128, most_logprobs = 20;
constexpr size_t most_values = 1 << 18;  // of a body: each takes some ten times the bytes that it is written with

Refusal refusal(const std::string& param, std::string message) {
  return {400, std::move(message), param, ""};
}

// A value in an error: its beginning.
std::string shown(const json& value) {
  constexpr size_t most = 100;
  const std::string text = value.dump(-1, ' ', true);
  return text.size() > most ? text.substr(0, most) + "…" : text;
}

// Parameters by name; null counts as not given.
class Parameters {
 public:
  // `of`: the member that the object is, with a dot behind it.
  explicit Parameters(const json& body, std::string of = "") : body_(body), of_(std::move(of)) {}

  const json* find(const char* name) {
    known_.insert(name);
    const auto found = body_.find(name);
    return found == body_.end() || found->is_null() ? nullptr : &*found;
  }
  void whole(const char* name, int64_t& value, int64_t least, int64_t most) {
    const json* given = find(name);
    if (!given) return;
    if (!given->is_number_integer() || *given < least || *given > most)
      throw wrong(name, "is a whole number from {} to {}, not {}", least, most, shown(*given));
    value = *given;
  }
  void number(const char* name, double& value) {
    const json* given = find(name);
    if (!given) return;
    if (!given->is_number()) throw wrong(name, "is a number, not {}", shown(*given));
    value = *given;
  }
  void truth(const char* name, bool& value) {
    const json* given = find(name);
    if (!given) return;
    if (!given->is_boolean()) throw wrong(name, "is true or false, not {}", shown(*given));
    value = *given;
  }
  // What would change the text and is not there: only the value that changes nothing.
  void only(const char* name, const json& harmless) {
    const json* given = find(name);
    if (given && *given != harmless) throw wrong(name, "is not supported here but as {}", harmless.dump());
  }
  void none_else() const {
    for (const auto& [name, value] : body_.items())
      if (!known_.contains(name)) throw refusal(of_ + name, fmt::format("there is no parameter '{}'", of_ + name));
  }

 private:
  template <class... Args>
  Refusal wrong(const std::string& name, fmt::format_string<Args...> what, Args&&... args) const {
    return refusal(of_ + name, fmt::format("'{}' {}", of_ + name, fmt::format(what, std::forward<Args>(args)...)));
  }

  const json& body_;
  const std::string of_;
  std::set<std::string> known_;
};

bool are_tokens(const json& list) {
  return list.is_array() && !list.empty() &&
         std::ranges::all_of(list, [](const json& item) { return item.is_number_integer(); });
}

void add_prompt(const json& prompt, const Tokenizer& tokenizer, Completions& to) {
  if (prompt.is_string()) {
    to.prompts.push_back(prompt);
    to.tokens.push_back(tokenizer.encode(to.prompts.back()));
    return;
  }
  std::vector<int32_t> ids;
  for (const json& item : prompt) {
    if (item < 0 || item >= tokenizer.vocabulary())
      throw refusal("prompt", fmt::format("{} is no token of the model's {}", shown(item), tokenizer.vocabulary()));
    ids.push_back(item);
  }
  Utf8Stream characters;  // of which tokens may be parts
  const std::string text = characters.push(tokenizer.decode(ids));
  to.prompts.push_back(text + characters.finish());
  to.tokens.push_back(std::move(ids));
}

// A prompt of parts. Its text is theirs, one behind the other.
void add_parts(const json& given, const PromptReader& prompts, Completions& to) {
  const std::vector<ExamplePart> parts = read_content(given);
  try {
    prompts.read(parts, to.all);
  } catch (const TooManyRows& error) {
    throw Refusal{400, error.what(), "parts", "context_length_exceeded"};
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::internal) throw;
    throw refusal("parts", error.what());
  }
  to.tokens.push_back(to.all.prompt);
  to.prompts.emplace_back();
  for (const ExamplePart& part : parts)
    if (!part.medium) to.prompts.back() += part.value;
}

void read_prompts(Parameters& p, const Tokenizer& tokenizer, const PromptReader& prompts, Completions& to) {
  const json* given = p.find("prompt");
  if (const json* parts = p.find("parts")) {
    if (given) throw refusal("parts", "'parts' stand in the place of a 'prompt': give one of them");
    return add_parts(*parts, prompts, to);
  }
  if (!given) return add_prompt("", tokenizer, to);  // a document's beginning, as at OpenAI
  if (given->is_string() || are_tokens(*given)) return add_prompt(*given, tokenizer, to);
  if (!given->is_array() || given->empty() || given->size() > 1024 ||
      !std::ranges::all_of(*given, [](const json& one) { return one.is_string() || are_tokens(one); }))
    throw refusal("prompt", "'prompt' is a text, tokens, or a list of up to 1024 such");
  for (const json& one : *given) add_prompt(one, tokenizer, to);
}

void read_stop(Parameters& p, Request& to) {
  const json* given = p.find("stop");
  if (!given) return;
  const json list = given->is_array() ? *given : json::array({*given});
  if (list.size() > 16) throw refusal("stop", "'stop' has at most 16 texts");
  for (const json& stop : list) {
    if (!stop.is_string() || stop.get_ref<const std::string&>().empty())
      throw refusal("stop", fmt::format("'stop' is a text or several, none of them empty, not {}", shown(*given)));
    to.stops.push_back(stop);
  }
}

void read_sampling(Parameters& p, Request& to) {
  const auto number = [&](const char* name, double& value) {
    p.number(name, value);
    try {
      check(to.sampling);
    } catch (const Error& error) {
      throw refusal(name, error.what());
    }
  };
  number("temperature", to.sampling.temperature);
  number("top_p", to.sampling.top_p);
  p.whole("top_k", to.sampling.top_k, 0, INT32_MAX);
  number("repetition_penalty", to.sampling.repetition_penalty);
  p.only("presence_penalty", 0);
  p.only("frequency_penalty", 0);
  p.only("logit_bias", json::object());
  p.only("suffix", "");
}

void read_stream(Parameters& p, Completions& to) {
  p.truth("stream", to.stream);
  const json* options = p.find("stream_options");
  if (!options) return;
  if (!to.stream || !options->is_object())
    throw refusal("stream_options", "'stream_options' is an object beside 'stream'");
  Parameters inner(*options, "stream_options.");
  inner.truth("include_usage", to.usage_in_stream);
  bool unused = false;
  inner.truth("include_obfuscation", unused);
  inner.none_else();
}

}  // namespace

Json json_of(const Refusal& r) {
  const auto text_or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  const char* type = r.status >= 500   ? "server_error"
                     : r.status == 401 ? "authentication_error"
                     : r.status == 429 ? "rate_limit_error"
                                       : "invalid_request_error";
  return {{"error",
           {{"message", r.message}, {"type", type}, {"param", text_or_null(r.param)}, {"code", text_or_null(r.code)}}}};
}

Completions read_completions(const std::string& body, const std::string& model, const Tokenizer& tokenizer,
                             const PromptReader& prompts, uint64_t seed) {
  std::string problem;
  const json object = parse_json(body, &problem, {.values = most_values});
  if (object.is_discarded()) throw refusal("", "the body " + problem);
  if (!object.is_object()) throw refusal("", "the body is no JSON object");
  Parameters p(object);
  Completions to;
  if (const json* given = p.find("model"); given && *given != model)
    throw Refusal{404, fmt::format("there is no model {}; this one is '{}'", shown(*given), model), "model",
                  "model_not_found"};
  read_prompts(p, tokenizer, prompts, to);
  to.all.tokens = 16;
  p.whole("max_tokens", to.all.tokens, 0, INT32_MAX);
  read_sampling(p, to.all);
  read_stop(p, to.all);
  p.truth("ignore_end", to.all.ignore_end);
  p.whole("n", to.choices, 1, most_choices);
  int64_t best = to.choices;
  p.whole("best_of", best, 1, most_choices);
  if (best != to.choices) throw refusal("best_of", "'best_of' is not supported here but as 'n'");
  p.whole("logprobs", to.logprobs, 0, most_logprobs);
  p.truth("echo", to.echo);
  if (to.echo && to.all.media) throw refusal("echo", "'echo' writes prompts of text, and these 'parts' are more");
  read_stream(p, to);
  auto given_seed = static_cast<int64_t>(seed);
  p.whole("seed", given_seed, INT64_MIN, INT64_MAX);
  to.seed = static_cast<uint64_t>(given_seed);
  p.find("user");
  p.none_else();
  to.all.logprobs = to.logprobs;
  return to;
}

std::vector<Request> Completions::requests() const {
  std::vector<Request> result;
  for (const std::vector<int32_t>& ids : tokens)
    for (int64_t i = 0; i < choices; ++i) {
      Request r = all;
      r.prompt = ids;
      // The first is what `generate` writes with this seed.
      r.random = Random(seed, i == 0 ? "sampling" : fmt::format("sampling:{}", i));
      r.score_prompt = echo && logprobs >= 0;
      result.push_back(std::move(r));
    }
  return result;
}

Json Answer::object(Json choices) const {
  return {{"id", id}, {"object", "text_completion"}, {"created", created}, {"model", model}, {"choices", choices}};
}

namespace {

// Of a token that is no text by itself its bytes, as OpenAI writes them.
std::string token_text(const Tokenizer& tokenizer, int32_t id) {
  if (id >= tokenizer.vocabulary()) return "";
  const std::string bytes(tokenizer.text_of(id));
  if (valid_utf8_prefix(bytes) == bytes.size()) return bytes;
  std::string text = "bytes:";
  for (const char c : bytes) text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return text;
}

int64_t characters(std::string_view bytes) {
  return std::ranges::count_if(bytes, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

}  // namespace

void LogprobsText::add_token(int32_t token, Json logprob, Json top) {
  Line line{token_text(tokenizer_, token), offset_, std::move(logprob), std::move(top)};
  // Characters as the text has them, U+FFFD for bytes that are part of none. The token begins where its first byte is.
  const size_t before = pending_.size();
  if (token < tokenizer_.vocabulary()) pending_ += tokenizer_.text_of(token);
  size_t begin = 0;
  for (bool found = false; begin < pending_.size(); ++offset_) {
    const Utf8Front front = utf8_front(std::string_view(pending_).substr(begin));
    if (!found && begin + front.length > before) {
      line.offset = offset_;
      found = true;
    }
    if (front.kind == Utf8Front::truncated) break;
    begin += front.length;
  }
  pending_.erase(0, begin);
  lines_.push_back(std::move(line));
}

void LogprobsText::add_first(int32_t token) {
  add_token(token, nullptr, nullptr);
}

void LogprobsText::add(const std::vector<ScoredToken>& scores) {
  for (const ScoredToken& s : scores) {
    Json top = Json::object();
    // Of tokens that are written alike the most probable one's.
    for (const auto& [id, logprob] : s.top) top.emplace(token_text(tokenizer_, id), logprob);
    if (top_ > 0) top.emplace(token_text(tokenizer_, s.token), s.logprob);
    add_token(s.token, s.logprob, top_ > 0 ? top : Json());
  }
}

void LogprobsText::end_prompt() {
  offset_ += !pending_.empty();
  pending_.clear();
}

Json LogprobsText::take(const std::optional<std::string>& within) {
  const int64_t end = within ? characters(*within) : INT64_MAX;
  Json tokens = Json::array(), logprobs = Json::array(), tops = Json::array(), offsets = Json::array();
  const auto behind = std::ranges::find_if(lines_, [&](const Line& line) { return line.offset >= end; });
  for (auto line = lines_.begin(); line != behind; ++line) {
    tokens.push_back(std::move(line->token));
    logprobs.push_back(std::move(line->logprob));
    tops.push_back(std::move(line->top));
    offsets.push_back(line->offset);
  }
  lines_.erase(lines_.begin(), behind);
  return {{"tokens", tokens}, {"token_logprobs", logprobs}, {"top_logprobs", tops}, {"text_offset", offsets}};
}

Json choice(int64_t index, const std::string& text, const Json& logprobs, const char* reason) {
  return {{"index", index}, {"text", text}, {"logprobs", logprobs}, {"finish_reason", reason ? Json(reason) : Json()}};
}

const char* finish_reason(Finish finish) {
  if (finish == Finish::interrupted || finish == Finish::failed) return nullptr;
  return finish == Finish::length || finish == Finish::context ? "length" : "stop";
}

Json usage(int64_t prompt, int64_t completion, int64_t cached) {
  return {{"prompt_tokens", prompt},
          {"completion_tokens", completion},
          {"total_tokens", prompt + completion},
          {"prompt_tokens_details", {{"cached_tokens", cached}}}};
}

}  // namespace hone::openai
