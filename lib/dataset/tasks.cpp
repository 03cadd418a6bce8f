#include "dataset/tasks.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <sstream>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/rows.h"
#include "dataset/json_lines.h"
#include "dataset/text_file.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

using nlohmann::json;

// One line of a task, with errors that say where it stands.
class Line {
 public:
  Line(const json& value, std::string where) : value_(value), where_(std::move(where)) {
    if (!value_.is_object()) throw input_error("{}: not an object", where_);
  }

  const json& at(const char* name) const {
    const auto found = value_.find(name);
    if (found == value_.end()) throw input_error("{}: no \"{}\"", where_, name);
    return *found;
  }
  bool has(const char* name) const { return value_.contains(name); }
  std::string text(const char* name) const {
    if (!at(name).is_string()) throw input_error("{}: \"{}\" is not a string", where_, name);
    return at(name).get<std::string>();
  }
  std::vector<std::string> texts(const char* name) const {
    std::vector<std::string> all;
    if (at(name).is_array())
      for (const json& item : at(name))
        if (item.is_string()) all.push_back(item.get<std::string>());
    if (all.size() < 2 || all.size() != at(name).size())
      throw input_error("{}: \"{}\" is not a list of at least two strings", where_, name);
    return all;
  }
  // A whole number, or its digits in quotes.
  int64_t number(const char* name) const {
    const json& value = at(name);
    if (value.is_number_integer()) return value.get<int64_t>();
    const std::string digits = value.is_string() ? value.get<std::string>() : "";
    if (digits.empty() || digits.find_first_not_of("0123456789") != digits.npos)
      throw input_error("{}: \"{}\" is not a whole number", where_, name);
    if (digits.size() > 9) throw input_error("{}: \"{}\" is too large: it has more than 9 digits", where_, name);
    return std::stoll(digits);
  }
  Line object(const char* name) const { return {at(name), where_}; }
  const std::string& where() const { return where_; }

 private:
  const json& value_;
  std::string where_;
};

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size()) text.replace(at, from.size(), to);
  return text;
}

std::string stripped(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\n\r"), end = text.find_last_not_of(" \t\n\r");
  return begin == text.npos ? "" : text.substr(begin, end - begin + 1);
}

// What WikiHow's articles leave in HellaSwag's texts: headings, and marks in brackets.
std::string without_marks(std::string text) {
  text = replaced(stripped(text), " [title]", ". ");
  for (size_t begin = 0; (begin = text.find('[', begin)) != text.npos;) {
    const size_t end = text.find(']', begin);
    if (end == text.npos) break;
    text.erase(begin, end - begin + 1);
  }
  return replaced(text, "  ", " ");
}

std::string capitalized(std::string text) {
  for (char& c : text) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 32);
  return text;
}

Question hellaswag(const Line& line) {
  Question q;
  const std::string label = line.text("activity_label"), a = line.text("ctx_a"), b = line.text("ctx_b");
  q.prompt = without_marks(fmt::format("{}: {} {}", label, a, capitalized(b)));
  for (const std::string& ending : line.texts("endings"))
    q.answers.push_back(fmt::format(" {}", without_marks(ending)));
  q.label = static_cast<size_t>(line.number("label"));
  return q;
}

Question piqa(const Line& line) {
  Question q;
  q.prompt = fmt::format("Question: {}\nAnswer:", line.text("goal"));
  q.answers = {fmt::format(" {}", line.text("sol1")), fmt::format(" {}", line.text("sol2"))};
  if (line.has("label")) q.label = static_cast<size_t>(line.number("label"));
  return q;
}

Question blimp(const Line& line) {
  Question q;
  q.answers = {line.text("sentence_good"), line.text("sentence_bad")};
  q.label = 0;
  return q;
}

Question lambada(const Line& line) {
  const std::string text = stripped(line.text("text"));
  const size_t space = text.rfind(' ');
  if (space == text.npos || space == 0) throw input_error("{}: \"text\" has no last word", line.where());
  Question q;
  q.prompt = text.substr(0, space);
  q.answers = {text.substr(space)};
  return q;
}

Question arc(const Line& line) {
  const Line question = line.object("question");
  Question q;
  q.prompt = fmt::format("Question: {}\nAnswer:", question.text("stem"));
  const std::string key = line.text("answerKey");
  const json& choices = question.at("choices");
  if (!choices.is_array()) throw input_error("{}: \"choices\" is not a list", line.where());
  for (const json& item : choices) {
    const Line choice(item, line.where());
    if (choice.text("label") == key) q.label = q.answers.size();
    q.answers.push_back(fmt::format(" {}", choice.text("text")));
  }
  if (!q.label) throw input_error("{}: \"answerKey\" is the label of no choice", line.where());
  return q;
}

// Each option in its place, and the rest of the sentence is scored (Trinh and Le, arXiv 1806.02847, "partial").
Question winogrande(const Line& line) {
  const std::string sentence = line.text("sentence");
  const size_t blank = sentence.find('_');
  if (blank == sentence.npos) throw input_error("{}: \"sentence\" has no _", line.where());
  Question q;
  const std::string rest = fmt::format(" {}", stripped(sentence.substr(blank + 1)));
  for (const char* option : {"option1", "option2"}) {
    q.prompts.push_back(sentence.substr(0, blank) + line.text(option));
    q.answers.push_back(rest);
  }
  q.prompt = sentence;
  q.label = static_cast<size_t>(line.number("answer") - 1);
  return q;
}

Question choices(const Line& line) {
  Question q;
  q.prompt = line.text("context");
  q.answers = line.texts("choices");
  q.label = static_cast<size_t>(line.number("answer"));
  return q;
}

struct Row {
  const char* name;
  Question (*read)(const Line& line);
  const char* plain =
      nullptr;  // the one member that there is, which a line of a .txt file is; null: it has no such form
};

// Every task there is.
constexpr Row rows[] = {{"hellaswag", hellaswag},     {"piqa", piqa}, {"blimp", blimp},
                        {"lambada", lambada, "text"}, {"arc", arc},   {"winogrande", winogrande},
                        {"choices", choices}};

// train.jsonl -> train-labels.lst: a label a line.
std::vector<size_t> labels_beside(const std::string& path) {
  const std::string labels =
      path.ends_with(".jsonl") ? path.substr(0, path.size() - 6) + "-labels.lst" : path + "-labels.lst";
  if (!std::filesystem::exists(labels))
    throw input_error("'{}': the lines have no \"label\", and there is no '{}'", path, labels);
  std::vector<size_t> all;
  std::istringstream lines(read_text_file(labels));
  for (std::string line; std::getline(lines, line);)
    if (!line.empty()) all.push_back(line == "0" ? 0 : line == "1" ? 1 : SIZE_MAX);
  return all;
}

// f(value, number) for each line of a file: an object of JSON, or the text of its one member. Empty lines are none.
void each_line(const Row& row, const std::string& path, const FileText& file,
               const std::function<void(json& value, size_t number)>& f) {
  if (!row.plain || !path.ends_with(".txt")) return each_json_line(file.bytes.text, file.name, f);
  std::istringstream lines{std::string(file.bytes.text)};
  size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (valid_utf8_prefix(line) != line.size()) throw input_error("{}, line {}: not UTF-8", file.name, number);
    if (stripped(line).empty()) continue;
    json value = {{row.plain, std::move(line)}};
    f(value, number);
  }
}

void read_file(const Row& row, const std::string& path, QuestionFile& into) {
  const FileText file = read_file_text(path);
  std::vector<size_t> labels;
  size_t taken = 0;
  each_line(row, path, file, [&](json& value, size_t number) {
    const Line line(value, fmt::format("{}, line {}", file.name, number));
    Question question = row.read(line);
    question.line = number;
    for (const char* id : {"id", "ind", "UID", "qID"})
      if (const auto found = value.find(id); found != value.end() && (found->is_string() || found->is_number_integer()))
        question.id = *found;
    if (question.answers.size() > 1 && !question.label) {
      if (labels.empty()) labels = labels_beside(path);
      if (taken >= labels.size()) throw input_error("{}: its file of labels has only {}", line.where(), labels.size());
      question.label = labels[taken];
    }
    ++taken;
    if (question.label && *question.label >= question.answers.size())
      throw input_error("{}: the right answer is none of the {} there are", line.where(), question.answers.size());
    for (const std::string& answer : question.answers)
      if (stripped(answer).empty()) throw input_error("{}: an answer is empty", line.where());
    into.questions.push_back(std::move(question));
  });
}

}  // namespace

std::vector<std::string> task_names() {
  std::vector<std::string> names;
  for (const Row& row : rows) names.emplace_back(row.name);
  return names;
}

QuestionFile read_task(const std::string& name, const std::string& path) {
  const Row& row = row_called(rows, name, "task");
  QuestionFile all{name, {}};
  if (std::filesystem::is_directory(path)) {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(path))
      if (entry.path().extension() == ".jsonl") files.push_back(entry.path().string());
    std::sort(files.begin(), files.end());
    for (const std::string& file : files) read_file(row, file, all);
  } else {
    read_file(row, path, all);
  }
  if (all.questions.empty()) throw input_error("'{}' holds no question of the task {}", path, name);
  return all;
}

}  // namespace hone
