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

// None for what is no number with one more behind it.
std::optional<int64_t> whole_number(std::string_view text) {
  int64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || stop != text.data() + text.size() || number < 0 || number == INT64_MAX)
    return {};
  return number;
}

Entries entries_of(const std::string& text, const std::filesystem::path& folder) {
  Entries entries;
  const size_t mark = text.rfind('#');
  const std::string path = text.substr(0, mark);
  entries.path = (folder / path).lexically_normal().string();
  if (path.empty()) throw input_error("'{}' names no file", text);
  if (mark == text.npos) return entries;
  const std::string numbers = text.substr(mark + 1);
  const size_t dots = numbers.find("..");
  const auto first = whole_number(numbers.substr(0, dots));
  const auto end = dots == numbers.npos ? std::optional<int64_t>(first.value_or(0) + 1)
                                        : whole_number(std::string_view(numbers).substr(dots + 2));
  if (!first || !end || *end <= *first)
    throw input_error("'{}' must end in #ENTRY or #FIRST..END: whole numbers from 0 on, the end above the first", text);
  return {entries.path, *first, *end, dots != numbers.npos};
}

// `what`: of what a range would give several.
void require_one(const Entries& entries, const char* what) {
  if (entries.range())
    throw input_error("'{}#{}..{}' stands for several {}: name one entry", entries.path, entries.first, entries.end,
                      what);
}

// A "text", an "image", …
std::vector<std::string> part_members() {
  std::vector<std::string> all = media_words(&Medium::name);
  all.insert(all.begin(), "text");
  for (std::string& name : all) name = with_article(fmt::format("\"{}\"", name));
  return all;
}

// Parts, and the entries that each names.
struct NamedParts {
  std::vector<ExamplePart> parts;
  std::vector<Entries> entries;
};

NamedParts named_parts(const json& list, const std::filesystem::path& folder) {
  NamedParts named;
  if (!list.is_array() || list.empty()) throw input_error("\"parts\" must be a list of at least one");
  for (size_t i = 0; i < list.size(); ++i) {
    const json& part = list[i];
    if (!part.is_object())
      throw input_error("part {} is no object such as {{\"{}\": \"{}\"}}", i + 1, all_media().front()->name,
                        all_media().front()->example);
    size_t found = 0;
    const auto take = [&](const char* name, const Medium* medium) {
      if (!part.contains(name) || ++found > 1 || !part[name].is_string()) return;
      const std::string value = part[name].get<std::string>();
      named.entries.push_back(medium ? entries_of(value, folder) : Entries());
      named.parts.push_back({medium, medium ? named.entries.back().path : value, named.entries.back().first});
    };
    take("text", nullptr);
    for (const Medium* medium : all_media()) take(medium->name, medium);
    if (found != 1 || named.parts.size() != i + 1)
      throw input_error("part {} must have one string: {}", i + 1, either_of(part_members()));
  }
  return named;
}

class LineReader {
 public:
  LineReader(Examples& into, const std::string& path)
      : into_(into), folder_(std::filesystem::path(path).parent_path()) {}

  void read(json& line, size_t number) try {
    Example example;
    example.file = into_.files.size() - 1;
    example.line = number;
    std::vector<Entries> entries;  // of each part
    if (line.is_object() && line.contains("parts")) {
      NamedParts named = named_parts(line["parts"], folder_);
      example.parts = std::move(named.parts);
      entries = std::move(named.entries);
    } else if (std::string* prompt = string_member(line, "prompt")) {
      example.parts.push_back({nullptr, std::move(*prompt)});
    } else if (std::string* text = string_member(line, "text")) {
      example.parts.push_back({nullptr, std::move(*text)});
    } else {
      throw input_error("not an object with \"parts\", with \"prompt\" and \"answer\", or with \"text\"");
    }
    entries.resize(example.parts.size());
    if (line.contains("loss_weight")) {
      const json& weight = line["loss_weight"];
      if (!weight.is_number() || !(weight.get<double>() > 0) || weight.get<double>() > 1e6)
        throw input_error("\"loss_weight\" must be a number above 0");
      example.weight = weight.get<float>();
    }
    Entries labels;
    if (line.contains("answer")) read_answer(line["answer"], example, labels);
    if (line.contains("prompt") && !line.contains("parts") && !example.has_answer)
      throw input_error("a \"prompt\" without an \"answer\"");
    append(example, entries, labels);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("{}, line {}: {}", into_.files.back(), number, error.what()));
  }

 private:
  void read_answer(const json& answer, Example& example, Entries& labels) {
    example.has_answer = true;
    if (answer.is_string()) {
      example.answer = answer.get<std::string>();
      if (example.answer.empty()) throw input_error("the answer is empty");
      return;
    }
    if (!answer.is_object() || !answer.contains("labels") || !answer["labels"].is_string())
      throw input_error("\"answer\" must be a string, or {{\"labels\": \"file#FIRST..END\"}}");
    labels = entries_of(answer["labels"].get<std::string>(), folder_);
    if (labels.first < 0) throw input_error("'{}' names no entries: write file#FIRST..END", labels.path);
  }

  void append(Example& example, const std::vector<Entries>& entries, const Entries& labels) {
    int64_t count = 0;
    const auto counted = [&](const Entries& e) {
      if (!e.range()) return;
      if (count > 0 && e.end - e.first != count)
        throw input_error("ranges of {} and of {} entries in one line", count, e.end - e.first);
      count = e.end - e.first;
    };
    for (const Entries& e : entries) counted(e);
    counted(labels);
    if (count > (int64_t{1} << 28)) throw input_error("a range of {} entries", count);
    for (int64_t i = 0; i < std::max<int64_t>(count, 1); ++i) {
      Example& one = into_.all.emplace_back(example);
      for (size_t p = 0; p < entries.size(); ++p)
        if (entries[p].range()) one.parts[p].index = entries[p].first + i;
      if (labels.first >= 0) one.answer = label(labels, labels.range() ? i : 0);
    }
  }

  std::string label(const Entries& labels, int64_t i) {
    auto& file = label_files_[labels.path];
    if (!file) file = std::make_unique<media::IdxFile>(labels.path);
    return std::to_string(file->number(labels.first + i));
  }

  Examples& into_;
  std::filesystem::path folder_;
  std::map<std::string, std::unique_ptr<media::IdxFile>> label_files_;
};

}  // namespace

ExamplePart medium_part(const Medium& medium, const std::string& text) {
  std::error_code none;
  if (std::filesystem::exists(text, none)) return {&medium, text};
  const Entries entries = entries_of(text, {});
  require_one(entries, medium.plural);
  return {&medium, entries.path, entries.first};
}

std::vector<ExamplePart> read_parts(const json& parts, const std::filesystem::path& folder) {
  NamedParts named = named_parts(parts, folder);
  for (const Entries& entries : named.entries) require_one(entries, "lines");
  return std::move(named.parts);
}

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
  if (bytes) return value;
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
