// The scores of eval: of each model of the command line, and of the baseline beside them.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/eval_result.h"
#include "bench/sample_file.h"
#include "cli/eval_options.h"
#include "cli/eval_texts.h"
#include "feed/sequence.h"
#include "measure/evaluate.h"
#include "model/division.h"

namespace hone::cli {

// One model file, with what is known of it so far.
struct EvalSubject : EvalResult {
  std::string path;
  Config config;
  nlohmann::json tokenizer_json;
  std::shared_ptr<const Tokenizer> tokenizer;
};

// What is to be scored, and on what: texts, or examples with images and sounds.
struct EvalWork {
  std::vector<EvalSubject> subjects;
  size_t scored = 0;  // of them, from the first
  std::optional<EvalSubject> baseline;
  std::optional<EvalTexts> texts;
  std::optional<Examples> examples;
  EvaluateSettings settings;
  std::optional<SampleFile> samples;  // what is scored so far, for --samples
  ModelRanks ranks;                   // with parts of the models; nobody: this process has them whole
  ModelRanks baseline_ranks;          // of the baseline, which each has whole where they cannot divide it

  const ModelRanks& ranks_of(const EvalSubject& s) const {
    return baseline && &s == &*baseline ? baseline_ranks : ranks;
  }
  const Corpus& text_of(const EvalSubject& s) const { return texts->text(s.tokenizer_json); }
  const Questions& questions_of(const EvalSubject& s) const { return texts->questions(s.tokenizer_json); }
  bool choices() const { return texts && texts->choices(); }
};

// Fills the results of all subjects and of the baseline. Throws what loading and scoring throw.
void score_all(EvalWork& work, const EvalOptions& options, const Common& common);

}  // namespace hone::cli
