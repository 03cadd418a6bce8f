#include "dataset/examples.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/spelling.h"
#include "dataset/json_lines.h"
#include "dataset/reader.h"
#include "dataset/text_file.h"
#include "media/idx.h"

namespace hone {
namespace {

using nlohmann::json;

// "images.gz#5..9"
struct Entries {
  std::string path;
  int64_t first = -1, end = -1;  // -1: no entries are named

  bool range() const { return end > first + 1 || several; }
  bool several = false;
};

std::optional<int64_t> whole_number(std::string_view text) {
  int64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || stop != text.data() + text.size() || number < 0) return {};
  return number;
}

class LineReader {
 public:
  LineReader(Examples& into, const std::string& path)
      : into_(into), folder_(std::filesystem::path(path).parent_path()) {}

  void read(json& line, size_t number) {
    where_ = fmt::format("{}, line {}", into_.files.back(), number);
    Example example;
    example.file = into_.files.size() - 1;
    example.line = number;
    std::vector<Entries> entries;  // of each part
    if (line.is_object() && line.contains("parts"))
      read_parts(line["parts"], example, entries);
    else if (std::string* prompt = string_member(line, "prompt"))
      example.parts.push_back({nullptr, std::move(*prompt)});
    else if (std::string* text = string_member(line, "text"))
      example.parts.push_back({nullptr, std::move(*text)});
    else
      throw input_error("{}: not an object with \"parts\", with \"prompt\" and \"answer\", or with \"text\"", where_);
    entries.resize(example.parts.size());
    if (line.contains("loss_weight")) {
      const json& weight = line["loss_weight"];
      if (!weight.is_number() || !(weight.get<double>() > 0) || weight.get<double>() > 1e6)
        throw input_error("{}: \"loss_weight\" must be a number above 0", where_);
      example.weight = weight.get<float>();
    }
    Entries labels;
    if (line.contains("answer")) read_answer(line["answer"], example, labels);
    if (line.contains("prompt") && !line.contains("parts") && !example.has_answer)
      throw input_error("{}: a \"prompt\" without an \"answer\"", where_);
    append(example, entries, labels);
  }

 private:
  void read_parts(const json& parts, Example& example, std::vector<Entries>& entries) {
    if (!parts.is_array() || parts.empty()) throw input_error("{}: \"parts\" must be a list of at least one", where_);
    for (size_t i = 0; i < parts.size(); ++i) {
      const json& part = parts[i];
      if (!part.is_object())
        throw input_error("{}: part {} is no object such as {{\"{}\": \"{}\"}}", where_, i + 1,
                          all_media().front()->name, all_media().front()->example);
      size_t found = 0;
      const auto take = [&](const char* name, const Medium* medium) {
        if (!part.contains(name) || ++found > 1 || !part[name].is_string()) return;
        const std::string value = part[name].get<std::string>();
        entries.push_back(medium ? entries_of(value) : Entries());
        example.parts.push_back({medium, medium ? entries.back().path : value, entries.back().first});
      };
      take("text", nullptr);
      for (const Medium* medium : all_media()) take(medium->name, medium);
      if (found != 1 || example.parts.size() != i + 1)
        throw input_error("{}: part {} must have one string: {}", where_, i + 1, either_of(members()));
    }
  }

  // A "text", an "image", …
  static std::vector<std::string> members() {
    std::vector<std::string> all = media_words(&Medium::name);
    all.insert(all.begin(), "text");
    for (std::string& name : all) name = with_article(fmt::format("\"{}\"", name));
    return all;
  }

  void read_answer(const json& answer, Example& example, Entries& labels) {
    example.has_answer = true;
    if (answer.is_string()) {
      example.answer = answer.get<std::string>();
      if (example.answer.empty()) throw input_error("{}: the answer is empty", where_);
      return;
    }
    if (!answer.is_object() || !answer.contains("labels") || !answer["labels"].is_string())
      throw input_error("{}: \"answer\" must be a string, or {{\"labels\": \"file#FIRST..END\"}}", where_);
    labels = entries_of(answer["labels"].get<std::string>());
    if (labels.first < 0) throw input_error("{}: '{}' names no entries: write file#FIRST..END", where_, labels.path);
  }

  Entries entries_of(const std::string& text) const {
    Entries entries;
    const size_t mark = text.rfind('#');
    const std::string path = text.substr(0, mark);
    entries.path = (folder_ / path).lexically_normal().string();
    if (path.empty()) throw input_error("{}: '{}' names no file", where_, text);
    if (mark == text.npos) return entries;
    const std::string numbers = text.substr(mark + 1);
    const size_t dots = numbers.find("..");
    const auto first = whole_number(numbers.substr(0, dots));
    const auto end = dots == numbers.npos ? std::optional<int64_t>(first.value_or(0) + 1)
                                          : whole_number(std::string_view(numbers).substr(dots + 2));
    if (!first || !end || *end <= *first)
      throw input_error("{}: '{}' must end in #ENTRY or #FIRST..END, the end above the first", where_, text);
    return {entries.path, *first, *end, dots != numbers.npos};
  }

  void append(Example& example, const std::vector<Entries>& entries, const Entries& labels) {
    int64_t count = 0;
    const auto counted = [&](const Entries& e) {
      if (!e.range()) return;
      if (count > 0 && e.end - e.first != count)
        throw input_error("{}: ranges of {} and of {} entries in one line", where_, count, e.end - e.first);
      count = e.end - e.first;
    };
    for (const Entries& e : entries) counted(e);
    counted(labels);
    if (count > (int64_t{1} << 28)) throw input_error("{}: a range of {} entries", where_, count);
    for (int64_t i = 0; i < std::max<int64_t>(count, 1); ++i) {
      Example& one = into_.all.emplace_back(example);
      for (size_t p = 0; p < entries.size(); ++p)
        if (entries[p].range()) one.parts[p].index = entries[p].first + i;
      if (labels.first >= 0) one.answer = label(labels, labels.range() ? i : 0);
    }
  }

  std::string label(const Entries& labels, int64_t i) {
    try {
      auto& file = label_files_[labels.path];
      if (!file) file = std::make_unique<media::IdxFile>(labels.path);
      return std::to_string(file->number(labels.first + i));
    } catch (const Error& error) {
      throw input_error("{}: {}", where_, error.what());
    }
  }

  Examples& into_;
  std::filesystem::path folder_;
  std::string where_;
  std::map<std::string, std::unique_ptr<media::IdxFile>> label_files_;
};

}  // namespace

const char* ExamplePart::kind() const {
  return medium ? medium->name : "text";
}

bool Example::has(std::string_view kind) const {
  return std::ranges::any_of(parts, [&](const ExamplePart& part) { return part.kind() == kind; });
}

MediaMix Example::mix() const {
  MediaMix mix;
  for (const Medium* medium : all_media())
    if (has(medium->name)) mix.push_back(medium);
  return mix;
}

std::string ExamplePart::name() const {
  return index < 0 ? fmt::format("'{}'", value) : fmt::format("'{}#{}'", value, index);
}

std::string Examples::where(const Example& example) const {
  return fmt::format("{}, line {}", files[example.file], example.line);
}

std::string Examples::name() const {
  return name_of(files);
}

Examples read_examples(const std::vector<std::string>& paths) {
  require_one_stdin(paths);
  Examples examples;
  for (const std::string& path : paths) {
    const FileText file = read_file_text(path);
    examples.files.push_back(file.name);
    const size_t before = examples.all.size();
    LineReader reader(examples, path);
    each_json_line(file.bytes.text, file.name, [&](json& line, size_t number) { reader.read(line, number); });
    if (examples.all.size() == before) throw input_error("{} holds no examples", file.name);
  }
  return examples;
}

bool holds_parts(const std::string& path) {
  std::error_code none;
  // A pipe can be read only once, and a text need not be read to know that it is none.
  if (!named_json_lines(path) || !std::filesystem::is_regular_file(path, none)) return false;
  const FileText file = read_file_text(path);
  const std::string_view text = file.bytes.text;
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == text.npos) return false;
  const json line = parse_json(text.substr(begin, text.find('\n', begin) - begin));
  return line.is_object() && line.contains("parts");
}

}  // namespace hone
