// Tokenizers in files of others, by what is in them.
#pragma once

#include <string>

#include "dataset/tokenizer.h"

namespace hone {

// What make_tokenizer() takes, of a tokenizer.json or a tokenizer.model, whatever its name, or of llama2.c's
// tokenizer.bin. Throws Error(input) for what is none of them and for a part that is not understood.
nlohmann::json read_tokenizer_file(const std::string& path);

bool names_tokenizer_file(const std::string& path);  // ends as such files do: .json, .model, .bin

// The same of the first of these that is in a folder: tokenizer.json, .model, .bin; null where there is none. Throws
// Error(input) where it has more tokens than `vocabulary`.
nlohmann::json tokenizer_beside(const std::string& folder, int64_t vocabulary);

}  // namespace hone
