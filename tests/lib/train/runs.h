// Short runs of a tiny model on a text that repeats, for the tests of training.
#pragma once

#include <map>
#include <string>

#include "dataset/corpus.h"
#include "support/check.h"
#include "support/models.h"
#include "train/run.h"
#include "train/run_state.h"

namespace hone::test {

inline Corpus text() {
  std::string letters;
  for (int i = 0; i < 400; ++i) letters += "the cat sat on the mat; ";
  std::vector<TextSource> sources;
  sources.push_back(text_in_memory(letters, "test"));
  return open_corpus(std::move(sources), byte_tokenizer());
}

inline Model fresh() {
  Config c = small_config();
  c.vocabulary = c.padded_vocabulary = 256;
  Model model;
  model.transformer = std::make_unique<Transformer>(c);
  initialize(*model.transformer, 1);
  return model;
}

inline RunSettings settings(int64_t steps) {
  RunSettings s;
  s.step.batch = 4;
  s.step.schedule = {&schedule_named("cosine"), 3e-3, 0.1, 5, steps, 0.2};
  s.step.dropout = 0.1f;
  s.context = 32;
  s.description = {{"steps", steps}};
  return s;
}

inline std::map<std::string, Tensor> after(Model& model) {
  return copy_parameters(*model.transformer);
}

inline bool equal(const std::map<std::string, Tensor>& a, const std::map<std::string, Tensor>& b) {
  for (const auto& [name, tensor] : a)
    if (relative_error(b.at(name), tensor) != 0.0) return false;
  return a.size() == b.size();
}

}  // namespace hone::test
