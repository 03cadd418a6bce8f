#include "serve/batch_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <unordered_map>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json.h"
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

void read_line(std::string_view text, const Tokenizer& tokenizer, const BatchSettings& settings, size_t index,
               BatchLine& line) {
  json object = require_json(text, "it");
  if (!object.is_object()) throw input_error("it is no JSON object");
  Members members(std::move(object));
  if (members.has("id")) line.id = members.take("id");
  if (!line.id.is_string() && !line.id.is_number()) throw input_error("\"id\" is a text or a number");
  if (!members.has("prompt")) throw input_error("it has no \"prompt\"");
  const json prompt = members.take("prompt");
  if (!prompt.is_string()) throw input_error("\"prompt\" is a text, not {}", prompt.dump());
  Request& r = line.request;
  r.prompt = tokenizer.encode(prompt.get_ref<const std::string&>());
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
  members.none_left();
  r.random = seed >= 0 ? Random(static_cast<uint64_t>(seed), "sampling")
                       : Random(settings.seed, index == 0 ? "sampling" : fmt::format("sampling:{}", index));
  check(r.sampling);
}

}  // namespace

std::vector<BatchLine> read_batch(const FileText& file, const Tokenizer& tokenizer, const BatchSettings& settings) {
  const std::string_view all = file.bytes.text;
  std::vector<BatchLine> lines;
  int64_t number = 0;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find('\n', begin), all.size());
    const std::string_view text = all.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (text.find_first_not_of(" \t\r") == text.npos) continue;
    BatchLine line;
    line.number = number;
    line.id = number;
    line.request = settings.all;
    try {
      read_line(text, tokenizer, settings, lines.size(), line);
    } catch (const Error& error) {
      line.error = error.what();
    }
    lines.push_back(std::move(line));
  }
  if (lines.empty()) throw input_error("'{}' has no line with a request", file.name);
  return lines;
}

namespace {

std::string first_line(const json& of) {
  return of.dump() + "\n";
}

// A part that has nothing, or half its first line.
bool is_unbegun(const std::string& part, const json& of) {
  return first_line(of).starts_with(part) && !part.ends_with('\n');
}

}  // namespace

BatchOutput::BatchOutput(const std::string& path, const json& of, const std::vector<BatchLine>& lines, bool force)
    : path_(path), part_(path + ".part") {
  open_part();
  try {
    require_writable(path, force);  // who had the part before may have finished
    const size_t kept = force ? 0 : read_part(of, lines);
    found_ = texts_.size();
    if (::ftruncate(::fileno(file_.get()), static_cast<off_t>(kept)) != 0)
      throw input_error("cannot write '{}': {}", part_, std::strerror(errno));
    if (kept == 0) put(first_line(of));
  } catch (const Error&) {
    if (is_unbegun(read_text_file(part_), of)) ::unlink(part_.c_str());
    throw;
  }
}

// Where there are no locks, as on some file systems of networks, it goes on without one.
void BatchOutput::open_part() {
  for (;;) {
    const int descriptor = ::open(part_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (descriptor < 0) throw input_error("cannot write '{}': {}", part_, std::strerror(errno));
    file_.reset(::fdopen(descriptor, "a+"));
    if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
      throw usage_error("'{}' is being written by another run; wait for its end, or give another name", part_);
    // Who had it may have finished, and removed it, in between.
    struct stat mine {
    }, there{};
    if (::fstat(descriptor, &mine) == 0 && ::stat(part_.c_str(), &there) == 0 && mine.st_ino == there.st_ino &&
        mine.st_dev == there.st_dev)
      return;
  }
}

size_t BatchOutput::read_part(const json& of, const std::vector<BatchLine>& lines) {
  const std::string all = read_text_file(part_);
  if (is_unbegun(all, of)) return 0;
  const size_t first = std::min(all.find('\n'), all.size());
  if (const json written = parse_json(all.substr(0, first)); written.is_discarded() || written != of)
    throw input_error(
        "'{}' is of another input, model or other options; give what it was begun with, or have it begun "
        "anew",
        part_);
  std::unordered_map<int64_t, const json*> ids;
  for (const BatchLine& line : lines) ids[line.number] = &line.id;
  size_t begin = first + 1;
  for (int64_t row = 2; begin < all.size(); ++row) {
    const size_t end = all.find('\n', begin), tab = std::min(all.find('\t', begin), end);
    if (end == std::string::npos) break;  // half a line
    int64_t line = 0;
    const bool number = std::from_chars(all.data() + begin, all.data() + tab, line).ptr == all.data() + tab;
    const std::string object = all.substr(std::min(tab + 1, end), end - std::min(tab + 1, end));
    const json text = parse_json(object);
    const auto id = ids.find(line);
    if (!number || id == ids.end() || !text.is_object() || text.value("id", json()) != *id->second)
      throw input_error("'{}' is damaged (line {}); have it begun anew", part_, row);
    add(line, object);
    begin = end + 1;
  }
  return begin;
}

void BatchOutput::put(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), file_.get()) != text.size() || std::fflush(file_.get()) != 0)
    throw input_error("cannot write '{}': {}", part_, std::strerror(errno));
}

void BatchOutput::add(int64_t line, std::string object) {
  if (lines_.insert(line).second) texts_.emplace_back(line, std::move(object));
}

void BatchOutput::write(int64_t line, const nlohmann::ordered_json& text) {
  add(line, text.dump(-1, ' ', false, json::error_handler_t::replace));
  put(fmt::format("{}\t{}\n", line, texts_.back().second));
}

void BatchOutput::finish(bool ordered, bool force) {
  if (ordered) std::ranges::sort(texts_, {}, [](const auto& text) { return text.first; });
  std::string all;
  for (const auto& [line, object] : texts_) all += object + "\n";
  write_text_file(path_, all, force);
  ::unlink(part_.c_str());
  file_.reset();
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
    for (const ScoredToken& scored : text.scores) result["logprobs"].push_back(json_of(scored, tokenizer));
  }
  return result;
}

nlohmann::ordered_json json_of_error(const BatchLine& line) {
  return {{"id", line.id}, {"line", line.number}, {"error", line.error}};
}

}  // namespace hone
