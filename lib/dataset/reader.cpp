#include "dataset/reader.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "dataset/json_lines.h"
#include "dataset/questions.h"
#include "dataset/text_file.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

TextSource read_plain(OwnedText bytes, std::string name) {
  TextSource source{std::move(name), {}, std::move(bytes.owner)};
  if (!bytes.text.empty()) source.documents.push_back(bytes.text);
  return source;
}

std::string document_of_line(nlohmann::json& line, const std::string& name, size_t number) {
  if (std::string* text = string_member(line, "text")) return std::move(*text);
  if (const auto question = question_of_line(line, name, number)) {
    const size_t right = question->label.value_or(0);
    return question->prompt + question->answers[right];
  }
  refuse_parts(line, name, number);
  throw input_error(
      "{}, line {}: not an object with a string \"text\", such as {{\"text\": \"…\"}}, or with \"prompt\" and "
      "\"answer\"",
      name, number);
}

TextSource read_json_lines(const OwnedText& bytes, std::string name) {
  auto buffer = std::make_shared<std::string>();
  std::vector<size_t> ends;  // of the documents in the buffer, which moves as it grows
  each_json_line(bytes.text, name, [&](nlohmann::json& line, size_t number) {
    const std::string document = document_of_line(line, name, number);
    if (document.empty()) return;
    *buffer += document;
    ends.push_back(buffer->size());
  });
  TextSource source{std::move(name), {}, buffer, true};
  source.documents.reserve(ends.size());
  size_t begin = 0;
  for (const size_t end : ends) {
    source.documents.push_back(std::string_view(*buffer).substr(begin, end - begin));
    begin = end;
  }
  return source;
}

TextSource checked(TextSource source) {
  if (source.documents.empty()) throw input_error("{} holds no text", source.name);
  return source;
}

}  // namespace

int64_t TextSource::bytes() const {
  size_t sum = 0;
  for (const auto& document : documents) sum += document.size();
  return static_cast<int64_t>(sum);
}

TextSource open_text(const std::string& path) {
  FileText file = read_file_text(path);
  return checked(file.json_lines ? read_json_lines(file.bytes, std::move(file.name))
                                 : read_plain(std::move(file.bytes), std::move(file.name)));
}

std::vector<TextSource> open_texts(const std::vector<std::string>& paths) {
  require_one_stdin(paths);
  std::vector<TextSource> sources;
  sources.reserve(paths.size());
  for (const auto& path : paths) sources.push_back(open_text(path));
  return sources;
}

void require_one_stdin(const std::vector<std::string>& paths) {
  if (std::count(paths.begin(), paths.end(), "-") > 1) throw usage_error("'-' (standard input) can be read only once");
}

std::vector<std::string_view> documents_of(const std::vector<TextSource>& sources) {
  std::vector<std::string_view> all;
  for (const auto& source : sources) all.insert(all.end(), source.documents.begin(), source.documents.end());
  return all;
}

int64_t training_part(int64_t count, double valid_fraction) {
  if (!(valid_fraction > 0 && valid_fraction < 1))
    throw usage_error("a validation fraction of {} is not between 0 and 1", valid_fraction);
  // Counted from the front, so that 0.1 of N leaves int(0.9 N), the usual cut.
  return static_cast<int64_t>(static_cast<double>(count) * (1 - valid_fraction));
}

std::pair<std::vector<TextSource>, std::vector<TextSource>> split_texts(const std::vector<TextSource>& sources,
                                                                        double valid_fraction) {
  int64_t all = -1;  // bytes, with a separator between two documents
  for (const TextSource& source : sources) all += source.bytes() + static_cast<int64_t>(source.documents.size());
  int64_t left = training_part(std::max<int64_t>(all, 0), valid_fraction);
  std::pair<std::vector<TextSource>, std::vector<TextSource>> parts;
  for (const TextSource& source : sources) {
    TextSource before{source.name, {}, source.owner, source.records}, behind = before;
    for (const std::string_view document : source.documents) {
      const auto cut = static_cast<size_t>(std::clamp<int64_t>(left, 0, static_cast<int64_t>(document.size())));
      if (cut > 0) before.documents.push_back(document.substr(0, cut));
      if (cut < document.size()) behind.documents.push_back(document.substr(cut));
      left -= static_cast<int64_t>(document.size()) + 1;
    }
    if (!before.documents.empty()) parts.first.push_back(std::move(before));
    if (!behind.documents.empty()) parts.second.push_back(std::move(behind));
  }
  return parts;
}

TextSource text_in_memory(std::string text, std::string name) {
  auto owner = std::make_shared<const std::string>(std::move(text));
  return checked(read_plain({*owner, owner}, std::move(name)));
}

std::string name_of(const std::vector<std::string>& names) {
  if (names.size() == 1) return names[0];
  return fmt::format("{} and {} more", names[0], names.size() - 1);
}

std::string name_of(const std::vector<TextSource>& sources) {
  std::vector<std::string> names;
  for (const TextSource& source : sources) names.push_back(source.name);
  return name_of(names);
}

}  // namespace hone
