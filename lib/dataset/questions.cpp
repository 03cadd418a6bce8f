#include "dataset/questions.h"

#include <algorithm>

#include "base/error.h"
#include "dataset/json_lines.h"
#include "dataset/text_file.h"

namespace hone {
namespace {

// A whole number, or its digits in quotes, as some collections write it.
std::optional<size_t> label_of(const nlohmann::json& label) {
  if (label.is_number_unsigned()) return label.get<size_t>();
  if (!label.is_string()) return std::nullopt;
  const auto& digits = label.get_ref<const std::string&>();
  if (digits.empty() || digits.size() > 9 || digits.find_first_not_of("0123456789") != digits.npos) return std::nullopt;
  return std::stoul(digits);
}

std::vector<std::string> strings_of(const nlohmann::json& list) {
  std::vector<std::string> strings;
  for (const nlohmann::json& item : list)
    if (item.is_string()) strings.push_back(item.get<std::string>());
  return strings.size() == list.size() ? strings : std::vector<std::string>();
}

// What is appended to `ids` for one answer, as a window.
EvalWindow append_answer(Encoder& encoder, int32_t separator, const std::string& prompt, const std::string& answer,
                         int64_t context, std::vector<int32_t>& ids, bool& shortened) {
  const auto begin = static_cast<int64_t>(ids.size());
  if (prompt.empty())
    ids.push_back(separator);
  else
    encoder.append(prompt, ids);
  const auto first = static_cast<int64_t>(ids.size());
  encoder.append(answer, ids);
  const auto end = static_cast<int64_t>(ids.size());
  const int64_t length = std::min(end - 1 - begin, context), start = end - 1 - length;
  shortened = shortened || start > begin;
  return {start, length, first - 1 - start};  // first_scored < 0: the answer alone is longer than the context
}

}  // namespace

std::optional<Question> question_of_line(nlohmann::json& line, const std::string& name, size_t number) {
  std::string* prompt = string_member(line, "prompt");
  if (!prompt) return std::nullopt;
  Question question;
  question.line = number;
  if (const auto id = line.find("id"); id != line.end() && (id->is_string() || id->is_number_integer()))
    question.id = *id;
  const auto answers = line.find("answers"), label = line.find("label");
  if (answers != line.end() && answers->is_array() && label != line.end()) {
    question.answers = strings_of(*answers);
    question.label = label_of(*label);
    if (question.answers.size() < 2)
      throw input_error("{}, line {}: \"answers\" must be a list of at least two strings", name, number);
    if (!question.label || *question.label >= question.answers.size())
      throw input_error("{}, line {}: \"label\" must be the place of the right answer, from 0 to {}", name, number,
                        question.answers.size() - 1);
  } else if (std::string* answer = string_member(line, "answer")) {
    question.answers.push_back(std::move(*answer));
  } else {
    return std::nullopt;
  }
  question.prompt = std::move(*prompt);
  return question;
}

QuestionFile read_questions(const std::string& path) {
  FileText file = read_file_text(path);
  QuestionFile result{std::move(file.name), {}};
  each_json_line(file.bytes.text, result.name, [&](nlohmann::json& line, size_t number) {
    auto question = question_of_line(line, result.name, number);
    if (!question) {
      refuse_parts(line, result.name, number);
      throw input_error(
          "{}, line {}: no question to score the answer of: an object with strings \"prompt\" and \"answer\", or with "
          "\"prompt\", a list \"answers\" and the \"label\" of the right one",
          result.name, number);
    }
    for (const std::string& answer : question->answers)
      if (answer.empty()) throw input_error("{}, line {}: an answer is empty", result.name, number);
    result.questions.push_back(std::move(*question));
  });
  if (result.questions.empty()) throw input_error("{} holds no question", result.name);
  return result;
}

std::vector<QuestionFile> read_questions(const std::vector<std::string>& paths) {
  require_one_stdin(paths);
  std::vector<QuestionFile> files;
  for (const std::string& path : paths) {
    files.push_back(read_questions(path));
    for (const Question& question : files.back().questions)
      if (question.label.has_value() != are_choices(files))
        throw input_error("{}, line {}: a question with {}, where the first has {}: score these in files of their own",
                          files.back().name, question.line, question.label ? "several answers" : "one answer",
                          question.label ? "one" : "several");
  }
  return files;
}

bool are_choices(const std::vector<QuestionFile>& files) {
  return files.front().questions.front().label.has_value();
}

Questions tokenize_questions(const std::vector<QuestionFile>& files, std::shared_ptr<const Tokenizer> tokenizer,
                             int64_t context, int64_t limit) {
  std::vector<int32_t> ids;
  std::vector<EvalWindow> windows;
  std::vector<const Question*> taken;
  std::vector<std::string> names;
  int64_t all_shortened = 0;
  const auto encoder = tokenizer->encoder();
  bool full = false;
  for (const QuestionFile& file : files) {
    names.push_back(file.name);
    for (size_t q = 0; q < file.questions.size() && !full; ++q) {
      const Question& question = file.questions[q];
      const size_t before = ids.size(), windows_before = windows.size();
      bool shortened = false;
      for (size_t a = 0; a < question.answers.size(); ++a) {
        const std::string& prompt = question.prompts.empty() ? question.prompt : question.prompts[a];
        windows.push_back(
            append_answer(*encoder, tokenizer->separator(), prompt, question.answers[a], context, ids, shortened));
        if (const EvalWindow& w = windows.back(); w.first_scored < 0)
          throw input_error("{}, line {}: the answer has {} tokens, more than the context of {}", file.name,
                            question.line, w.length - w.first_scored, context);
      }
      full = limit > 0 && static_cast<int64_t>(ids.size()) > limit && !taken.empty();
      if (full) {
        ids.resize(before);
        windows.resize(windows_before);
      } else {
        taken.push_back(&question);
        all_shortened += shortened;
      }
    }
  }
  return {corpus_of(std::move(ids), std::move(tokenizer), name_of(names)), std::move(windows), std::move(taken),
          all_shortened};
}

}  // namespace hone
