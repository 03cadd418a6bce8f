// Tokenizers as Hugging Face's `tokenizers` keeps them: tokenizer.json.
#pragma once

#include <string>

#include "dataset/tokenizer.h"

namespace hone {

// {"kind": "tokenizer.json", "text": all of the file, "separator": id}. The tokens are those of the library that the
// file is made for, but for special tokens: they come where they are asked for (Tokenizer::special_encoder). Throws
// Error(input) naming a part that is not understood: nothing is tokenized in another way.
std::shared_ptr<const Tokenizer> tokenizer_from_json(const nlohmann::json& json);

// What make_tokenizer() takes, of a file; the separator is the end of text that tokenizer_config.json beside it names,
// else a special token that is known to be one, else the byte NUL. Throws Error(input) as above.
nlohmann::json read_tokenizer_json(const std::string& path);

// "eos_token" of the tokenizer_config.json beside a file: a string, or an object with "content"; "" where there is none.
std::string end_token_beside(const std::string& file);

}  // namespace hone
