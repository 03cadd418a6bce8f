#include "serve/batch_file.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json.h"
#include "base/stop.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

using nlohmann::json;

// Numbers and texts of a line, by name; what is asked for is taken out.
class Members {
 public:
  explicit Members(json object) : object_(std::move(object)) {}

  bool has(const char* name) const { return object_.contains(name); }
  json take(const char* name) {
    json value = object_.at(name);
    object_.erase(name);
    return value;
  }
  void count(const char* name, int64_t& value, int64_t most = 1'000'000'000) {
    if (!has(name)) return;
    const json given = take(name);
    if (!given.is_number_integer() || given < 0 || given > most)
      throw input_error("\"{}\" is a whole number from 0 to {}, not {}", name, most, given.dump());
    value = given;
  }
  void number(const char* name, double& value) {
    if (!has(name)) return;
    const json given = take(name);
    if (!given.is_number()) throw input_error("\"{}\" is a number, not {}", name, given.dump());
    value = given;
  }
  void truth(const char* name, bool& value) {
    if (!has(name)) return;
    const json given = take(name);
    if (!given.is_boolean()) throw input_error("\"{}\" is true or false, not {}", name, given.dump());
    value = given;
  }
  void none_left() const {
    if (!object_.empty()) throw input_error("there is no \"{}\"", object_.begin().key());
  }

 private:
  json object_;
};

std::vector<std::string> stops_of(const json& given) {
  std::vector<std::string> stops;
  const json list = given.is_array() ? given : json::array({given});
  for (const json& stop : list) {
    if (!stop.is_string() || stop.get_ref<const std::string&>().empty())
      throw input_error("\"stop\" is a text or several, none of them empty, not {}", given.dump());
    stops.push_back(stop);
  }
  return stops;
}

// What all lines are read with.
struct LineSettings {
  const std::filesystem::path& folder;
  const Tokenizer& tokenizer;
  const PromptReader& prompts;
  const BatchSettings& batch;
};

void read_prompt(Members& members, const LineSettings& with, BatchLine& line) {
  if (members.has("prompt") == members.has("parts"))
    throw input_error("{}", members.has("parts") ? "\"parts\" stand in the place of a \"prompt\": give one of them"
                                                 : "it has no \"prompt\", and no \"parts\"");
  Request& r = line.request;
  if (members.has("prompt")) {
    const json prompt = members.take("prompt");
    if (!prompt.is_string()) throw input_error("\"prompt\" is a text, not {}", prompt.dump());
    r.prompt = with.tokenizer.encode(prompt.get_ref<const std::string&>());
    return;
  }
  line.parts = read_parts(members.take("parts"), with.folder);
  with.prompts.read(line.parts, r);
  if (!r.media) return line.parts.clear();
  line.media = r.media->digest();
  r.media = nullptr;
}

void read_line(std::string_view text, const LineSettings& with, size_t index, BatchLine& line) {
  json object = require_json(text, "it");
  if (!object.is_object()) throw input_error("it is no JSON object");
  Members members(std::move(object));
  if (members.has("id")) line.id = members.take("id");
  if (!line.id.is_string() && !line.id.is_number()) throw input_error("\"id\" is a text or a number");
  read_prompt(members, with, line);
  Request& r = line.request;
  members.count("tokens", r.tokens);
  members.number("temperature", r.sampling.temperature);
  members.count("top_k", r.sampling.top_k);
  members.number("top_p", r.sampling.top_p);
  members.number("repetition_penalty", r.sampling.repetition_penalty);
  members.truth("ignore_end", r.ignore_end);
  members.count("logprobs", r.logprobs, 100);
  if (members.has("stop")) r.stops = stops_of(members.take("stop"));
  int64_t seed = -1;
  members.count("seed", seed, INT64_MAX);
  if (members.has("answer"))
    throw input_error("\"answer\" is of lines to learn from or to score: leave it out, the model writes one");
  members.none_left();
  r.random = seed >= 0 ? Random(static_cast<uint64_t>(seed), "sampling")
                       : Random(with.batch.seed, index == 0 ? "sampling" : fmt::format("sampling:{}", index));
  check(r.sampling);
}

}  // namespace

std::vector<BatchLine> read_batch(const FileText& file, const std::filesystem::path& folder, const Tokenizer& tokenizer,
                                  const PromptReader& prompts, const BatchSettings& settings) {
  const LineSettings with = {folder, tokenizer, prompts, settings};
  const std::string_view all = file.bytes.text;
  std::vector<BatchLine> lines;
  int64_t number = 0;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find('\n', begin), all.size());
    const std::string_view text = all.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (text.find_first_not_of(" \t\r") == text.npos) continue;
    check_stop();
    BatchLine line;
    line.number = number;
    line.id = number;
    line.request = settings.all;
    try {
      read_line(text, with, lines.size(), line);
    } catch (const Error& error) {
      line.error = error.what();
    }
    lines.push_back(std::move(line));
  }
  if (lines.empty()) throw input_error("'{}' has no line with a request", file.name);
  return lines;
}

BatchOutput::BatchOutput(const std::string& path, const json& of, const std::vector<BatchLine>& lines, bool force)
    : path_(path), part_(path, of, force) {
  std::unordered_map<int64_t, const json*> ids;
  for (const BatchLine& line : lines) ids[line.number] = &line.id;
  int64_t row = 1;
  for (const std::string& all : part_.take_found()) {
    ++row;
    const size_t tab = std::min(all.find('\t'), all.size());
    int64_t line = 0;
    const bool number = std::from_chars(all.data(), all.data() + tab, line).ptr == all.data() + tab;
    const std::string object = all.substr(std::min(tab + 1, all.size()));
    const json text = parse_json(object);
    const auto id = ids.find(line);
    if (!number || id == ids.end() || !text.is_object() || text.value("id", json()) != *id->second)
      throw input_error("'{}' is damaged (line {}); have it begun anew", part_.name(), row);
    add(line, object);
  }
  found_ = texts_.size();
}

void BatchOutput::add(int64_t line, std::string object) {
  if (lines_.insert(line).second) texts_.emplace_back(line, std::move(object));
}

void BatchOutput::write(int64_t line, const nlohmann::ordered_json& text) {
  add(line, text.dump(-1, ' ', false, json::error_handler_t::replace));
  part_.put(fmt::format("{}\t{}", line, texts_.back().second));
}

void BatchOutput::finish(bool ordered, bool force) {
  if (ordered) std::ranges::sort(texts_, {}, [](const auto& text) { return text.first; });
  std::string all;
  for (const auto& [line, object] : texts_) all += object + "\n";
  write_text_file(path_, all, force);
  part_.remove();
}

namespace {

nlohmann::ordered_json json_of(const ScoredToken& scored, const Tokenizer& tokenizer) {
  const auto text = [&](int32_t id) {
    Utf8Stream stream;
    return id < tokenizer.vocabulary() ? stream.push(tokenizer.text_of(id)) + stream.finish() : std::string();
  };
  nlohmann::ordered_json result = {{"id", scored.token}, {"token", text(scored.token)}, {"logprob", scored.logprob}};
  for (const auto& [id, logprob] : scored.top)
    result["top"].push_back({{"id", id}, {"token", text(id)}, {"logprob", logprob}});
  return result;
}

}  // namespace

nlohmann::ordered_json json_of(const BatchLine& line, const Completion& text, const Tokenizer& tokenizer) {
  nlohmann::ordered_json result = {{"id", line.id},
                                   {"text", text.text},
                                   {"tokens", text.tokens.size()},
                                   {"finish_reason", name_of(text.finish)},
                                   {"prompt_tokens", text.prompt_tokens}};
  if (line.request.logprobs >= 0) {
    result["logprobs"] = nlohmann::ordered_json::array();
    for (size_t i = 0; i < text.tokens.size(); ++i) result["logprobs"].push_back(json_of(text.scores[i], tokenizer));
  }
  return result;
}

nlohmann::ordered_json json_of_error(const BatchLine& line) {
  return {{"id", line.id}, {"line", line.number}, {"error", line.error}};
}

}  // namespace hone
