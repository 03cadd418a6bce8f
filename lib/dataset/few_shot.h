// Examples before a question: the same kind of question with its right answer (few shots; Brown et al., arXiv
// 2005.14165).
#pragma once

#include <cstdint>

#include "dataset/questions.h"

namespace hone {

// Puts `count` examples before each question of `file`: "prompt answer", a blank line behind each. They are questions of
// `from`, drawn anew for each question by `seed`, its place and nothing else, none twice; where `from` is null they are
// of `file` itself, and a question is no example of its own. Throws Error(input) where there are too few, Error(usage)
// for a question without a prompt: it begins a document, with nothing before it.
void add_examples(QuestionFile& file, const QuestionFile* from, int64_t count, uint64_t seed);

}  // namespace hone
