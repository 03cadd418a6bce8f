// A teacher's predictions for every token of a training text, kept in a file: computed once, and mapped afterwards by
// runs that never load the teacher.
#pragma once

#include <string>

#include "dataset/corpus.h"
#include "train/teacher.h"

namespace hone {

// What the predictions depend on; a file of others is refused.
struct TeacherCacheKey {
  std::string text;     // fingerprint() of the training text
  std::string teacher;  // sha256 of the teacher's file
  int64_t context = 0;
  double temperature = 1;
  int64_t top = 0;  // tokens a position; the probabilities of all others are kept as their sum
};

// Windows of `context` tokens, each half a window behind the one before: a prediction has seen between half a context
// and a whole one (less at the beginning of the text). A position takes top * (2 or, for vocabularies above 65536, 4)
// bytes for ids and (top + 1) * 2 for probabilities, in bf16. Throws Error(input) where the disk has no room.
void write_teacher_cache(const std::string& path, const TeacherCacheKey& key, const Transformer& teacher,
                         const Corpus& text, DType type);

// Answers from the file; has no streams. Throws Error(input) for a file that cannot be read or is damaged,
// Error(usage), naming what differs, for one of another key.
std::shared_ptr<const Teacher> cached_teacher(const std::string& path, const TeacherCacheKey& key, int64_t vocabulary);

// What the file takes.
double teacher_cache_bytes(int64_t tokens, int64_t top, int64_t vocabulary);

}  // namespace hone
