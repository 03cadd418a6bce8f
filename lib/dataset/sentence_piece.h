// Tokenizers as SentencePiece keeps them: tokenizer.model (Kudo and Richardson, arXiv 1808.06226).
#pragma once

#include <string>

#include "dataset/tokenizer.h"

namespace hone {

// {"kind": "tokenizer.model", "base64": all of the file, "separator": id}. The tokens are SentencePiece's own, unigram or
// byte pairs; bytes that are not UTF-8 become U+FFFD, as there. Throws Error(input).
std::shared_ptr<const Tokenizer> sentence_piece_from_json(const nlohmann::json& json);

// What make_tokenizer() takes, of a file's bytes; `where` names it. `end` is the piece that ends a text, or nothing: then
// the one that the file says.
nlohmann::json sentence_piece_json(std::string_view bytes, const std::string& where, const std::string& end);

}  // namespace hone
