// What the files of encoders give the table in encoder.cpp, and how they read names.
#pragma once

#include "nn/encoders/encoder.h"

namespace hone {

struct EncoderRow {
  const char* form;     // as a name is written; what is in brackets may be left out
  const char* example;  // for tests
  std::shared_ptr<const EncoderKind> (*make)(const std::string& name);
  const char* help;  // behind "Take images, "
};

// The words of a name behind the first, "4x4" and "GREY" of "patches:4x4:GREY". Throws Error(usage), with `form`, for
// more words than that has, and for fewer than it has outside brackets.
std::vector<std::string> words_of(const std::string& name, const std::string& form);
// Whole numbers of one word, parted by `mark`: {4, 4} of "4x4". Throws Error(usage), with `form`, unless there are
// `count` from `least` to `most`.
std::vector<int64_t> numbers_in(const std::string& word, char mark, size_t count, int64_t least, int64_t most,
                                const std::string& name, const std::string& form);

}  // namespace hone
