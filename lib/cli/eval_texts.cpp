#include "cli/eval_texts.h"

#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "dataset/few_shot.h"
#include "dataset/tasks.h"

namespace hone::cli {

EvalTexts::EvalTexts(const EvalOptions& options, int64_t context, uint64_t seed) : o_(options), context_(context) {
  if (!o_.answers) {
    sources_ = open_texts(o_.data);
    name_ = name_of(sources_);
    return;
  }
  if (o_.tasks.empty()) {
    files_ = read_questions(o_.data);
  } else {
    for (const std::string& task : o_.tasks) {
      const auto [name, path] = EvalOptions::task_of(task);
      files_.push_back(read_task(name, path));
      put_examples(files_.back(), seed);
      if (files_.back().questions.front().label.has_value() != are_choices(files_))
        throw usage_error("--task {} has {} and the first task {}: score these one after the other", name,
                          are_choices(files_) ? "one answer" : "several answers",
                          are_choices(files_) ? "several" : "one");
    }
  }
  choices_ = are_choices(files_);
  std::vector<std::string> names;
  for (const QuestionFile& file : files_) names.push_back(file.name);
  name_ = name_of(names);
  o_.requirements(choices_);
}

void EvalTexts::put_examples(QuestionFile& task, uint64_t seed) const {
  for (const std::string& from : o_.examples_from)
    if (const auto [name, path] = EvalOptions::task_of(from); name == task.name && o_.few_shot > 0) {
      const QuestionFile examples = read_task(name, path);
      add_examples(task, &examples, o_.few_shot, seed);
      return;
    }
  add_examples(task, nullptr, o_.few_shot, seed);
}

void EvalTexts::add(const nlohmann::json& json, const std::shared_ptr<const Tokenizer>& tokenizer) {
  const std::string key = json.dump();
  if (texts_.contains(key)) return;
  if (!o_.answers) {
    texts_.emplace(key, tokenize_text(tokenizer));
    return;
  }
  const Questions& questions = questions_.emplace(key, tokenize(tokenizer)).first->second;
  texts_.emplace(key, questions.text);
}

Corpus EvalTexts::tokenize_text(const std::shared_ptr<const Tokenizer>& tokenizer) const {
  Corpus text = open_corpus(sources_, tokenizer);
  if (text.size() < 2) throw input_error("'{}' has {}; scoring needs at least 2", name_, counted(text.size(), "token"));
  if (o_.limit > text.size())
    log_warning("--limit {}: '{}' has {}, and all are scored", o_.limit, name_, counted(text.size(), "token"));
  if (o_.context.value_or(1) >= text.size())
    log_warning("--context {}: '{}' has {}, and no window is longer", *o_.context, name_,
                counted(text.size(), "token"));
  return text;
}

Questions EvalTexts::tokenize(const std::shared_ptr<const Tokenizer>& tokenizer) const {
  Questions questions = tokenize_questions(files_, tokenizer, context_, o_.limit);
  if (questions.shortened > 0)
    log_warning(
        "{} of {} questions are longer than the context of {} tokens, and their prompts lose their beginning; "
        "--context gives more",
        questions.shortened, questions.questions.size(), context_);
  return questions;
}

void EvalTexts::warn_of_several_tokenizers() const {
  if (one_tokenizer()) return;
  log_info("the tokenizers differ: compare bits_per_byte, not metrics of tokens{}",
           o_.limit > 0 ? "; --limit counts tokens, so the models are scored on different amounts of text" : "");
}

}  // namespace hone::cli
