// What eval scores models on, tokenized once for each tokenizer.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/eval_options.h"
#include "dataset/corpus.h"
#include "dataset/questions.h"

namespace hone::cli {

class EvalTexts {
 public:
  // Reads what --data names: texts, or with --answers questions. Throws Error(input), and Error(usage) for a
  // requirement on what these questions do not have.
  // `seed` draws the examples of --few-shot.
  EvalTexts(const EvalOptions& options, int64_t context, uint64_t seed);
  EvalTexts(const EvalTexts&) = delete;  // questions point into files_
  EvalTexts& operator=(const EvalTexts&) = delete;

  // Tokenizes, unless a tokenizer with the same `json` was added. Warns where --limit, --context or a prompt does not
  // go as far as its number says. Throws Error(input) for a text with nothing to predict.
  void add(const nlohmann::json& json, const std::shared_ptr<const Tokenizer>& tokenizer);
  void warn_of_several_tokenizers() const;  // says so, where there are

  const std::string& name() const { return name_; }
  const std::vector<QuestionFile>& files() const { return files_; }  // of questions: a task each, where there are tasks
  bool one_tokenizer() const { return texts_.size() == 1; }
  bool choices() const { return choices_; }  // questions have several answers
  const Corpus& text(const nlohmann::json& tokenizer) const { return texts_.at(tokenizer.dump()); }
  const Questions& questions(const nlohmann::json& tokenizer) const { return questions_.at(tokenizer.dump()); }

 private:
  void put_examples(QuestionFile& task, uint64_t seed) const;
  Corpus tokenize_text(const std::shared_ptr<const Tokenizer>& tokenizer) const;
  Questions tokenize(const std::shared_ptr<const Tokenizer>& tokenizer) const;

  const EvalOptions& o_;
  int64_t context_;
  std::vector<TextSource> sources_;
  std::vector<QuestionFile> files_;  // with --answers
  bool choices_ = false;
  std::string name_;
  std::map<std::string, Corpus> texts_;         // by tokenizer
  std::map<std::string, Questions> questions_;  // the same, with --answers
};

}  // namespace hone::cli
