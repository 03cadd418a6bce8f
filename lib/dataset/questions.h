// Questions with answers that are scored, from JSON lines.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "dataset/corpus.h"
#include "dataset/windows.h"

namespace hone {

// A line with strings "prompt" and "answer"; or a "prompt" and a list "answers" of strings of which "label" is the
// right one, counted from 0.
struct Question {
  std::string prompt;                // may be empty: the answer begins a document
  std::vector<std::string> answers;  // one, or at least two and a label
  std::optional<size_t> label;
  nlohmann::json id;                      // the line's "id" if it is a string or a whole number, else null
  size_t line = 0;                        // in its file
  std::vector<std::string> prompts = {};  // of each answer, where they are not all `prompt`
};

// None where the line has neither form. Throws Error(input) with its place for a label that names no answer and for a
// list of fewer than two answers.
std::optional<Question> question_of_line(nlohmann::json& line, const std::string& name, size_t number);

// The questions of one file, which is read as JSON lines whatever its name. Throws Error(input) as read_file_text and
// each_json_line do, for a line without a question or with an empty answer, and for a file without lines.
struct QuestionFile {
  std::string name;
  std::vector<Question> questions;
};
QuestionFile read_questions(const std::string& path);
// In order. Error(input) where some have one answer and some several: their accuracies are different things.
std::vector<QuestionFile> read_questions(const std::vector<std::string>& paths);

bool are_choices(const std::vector<QuestionFile>& files);  // several answers with a right one

// Prompt and answer are tokenized apart, so that no token holds parts of both, and each answer stands behind a prompt
// of its own. An empty prompt is the document separator. The windows of a question lie one behind the other, one for
// each answer, of at most `context` inputs: its last ones; the answer is scored.
struct Questions {
  Corpus text;
  std::vector<EvalWindow> windows;
  std::vector<const Question*> questions;  // that were taken, of `files`
  int64_t shortened = 0;                   // questions of more: prompts have lost their beginning
};

// The questions up to the first that would make it more than `limit` tokens in all (0: no limit), at least one. They
// point into `files`. Throws Error(input) for an answer of more than `context` tokens, with its place.
Questions tokenize_questions(const std::vector<QuestionFile>& files, std::shared_ptr<const Tokenizer> tokenizer,
                             int64_t context, int64_t limit);

}  // namespace hone
