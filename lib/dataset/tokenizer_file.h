// Tokenizers in files of others, by what is in them.
#pragma once

#include <string>

#include "dataset/tokenizer.h"

namespace hone {

// What make_tokenizer() takes, of a tokenizer.json or a tokenizer.model, whatever its name. Throws Error(input) for what
// is neither and for a part that is not understood.
nlohmann::json read_tokenizer_file(const std::string& path);

bool names_tokenizer_file(const std::string& path);  // ends as such files do: .json, .model

// The same of the tokenizer.json in a folder, else of its tokenizer.model; null where there is neither. Throws
// Error(input) where it has more tokens than `vocabulary`.
nlohmann::json tokenizer_beside(const std::string& folder, int64_t vocabulary);

}  // namespace hone
