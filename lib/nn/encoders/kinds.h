// What makes the encoders of the table in encoder.cpp: a kind, a file, a line there. Their help stands behind
// "Take images, ".
#pragma once

#include "nn/encoders/encoder.h"

namespace hone {

// The words of a name behind the first, "4x4" and "GREY" of "patches:4x4:GREY". Throws Error(usage), with `form`, for
// more words than that has, and for fewer than it has outside brackets.
std::vector<std::string> words_of(const std::string& name, const std::string& form);
// Whole numbers of one word, parted by `mark`: {4, 4} of "4x4". Throws Error(usage), with `form`, unless there are
// `count` from `least` to `most`.
std::vector<int64_t> numbers_in(const std::string& word, char mark, size_t count, int64_t least, int64_t most,
                                const std::string& name, const std::string& form);

inline constexpr const char* patches_form = "patches:HEIGHTxWIDTH[:GREY|RGB][:MAXxMAX]";
inline constexpr const char* patches_help =
    "cut into patches: patches:HxW[:GREY|RGB][:MAXxMAX], the largest 224x224 by default";
std::shared_ptr<const EncoderKind> patches_encoder(const std::string& name);

inline constexpr const char* mel_form = "mel:BANDS[:RATE][:MILLISECONDS/STEP][:STACK]";
inline constexpr const char* mel_help =
    "as log mel spectrograms: mel:BANDS[:RATE][:MS/STEP][:STACK], by default 16000 a second, frames of 25 ms every 10, "
    "STACK of them a row (1)";
std::shared_ptr<const EncoderKind> mel_encoder(const std::string& name);

}  // namespace hone
