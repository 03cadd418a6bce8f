// tokenizer.bin: a vocabulary of byte pairs as llama2.c keeps it (its tokenizer.py writes it, its run.c reads it).
#pragma once

#include <string>
#include <string_view>

#include "dataset/sentence_piece_file.h"

namespace hone {

// An int32 for the longest piece, then for each piece, by id, its score (f32), its bytes (int32) and its text, to the end
// of the file. The kinds of pieces are not in it: the first three are the unknown piece and what begins and ends a text,
// and "<0x0A>" is a byte. Throws Error(input) naming `where`.
SentencePieceFile parse_llama2c_tokenizer(std::string_view bytes, const std::string& where);

}  // namespace hone
