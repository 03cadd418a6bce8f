// Tokenizers in GGUF files, and to them: byte-level pairs of the pre-tokenizers that llama.cpp and Hone both know, and
// SentencePiece's byte pairs.
#pragma once

#include "exchange/gguf_file.h"

#include <nlohmann/json.hpp>

namespace hone {

// What make_tokenizer() takes; null where the file has none. Throws Error(input) naming what is not read.
nlohmann::json tokenizer_from_gguf(const GgufFile& file);

// Adds the keys of a model file's tokenizer for a table of `rows` rows; rows beyond its tokens become unused ones.
// Throws Error(usage) naming what llama.cpp would tokenize in another way.
void add_gguf_tokenizer(const nlohmann::json& tokenizer, int64_t rows, GgufContent& to);

}  // namespace hone
