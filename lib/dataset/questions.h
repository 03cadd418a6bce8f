// Documents whose answers alone are scored.
#pragma once

#include "dataset/corpus.h"
#include "dataset/windows.h"

namespace hone {

struct Questions {
  Corpus text;                      // prompt and answer of each, tokenized apart, so that no token holds parts of both
  std::vector<EvalWindow> windows;  // one for each, of at most `context` inputs: its last ones; the answer is scored
  int64_t shortened = 0;            // questions of more: their prompts have lost their beginning
};

// The documents of `sources` that have a prompt and an answer (see open_text), up to the first that would make it more
// than `limit` tokens in all (0: no limit). Throws Error(input) for a document without an answer or a prompt, with its
// place, and for an answer of more than `context` tokens.
Questions open_questions(const std::vector<TextSource>& sources, std::shared_ptr<const Tokenizer> tokenizer,
                         int64_t context, int64_t limit);

}  // namespace hone
