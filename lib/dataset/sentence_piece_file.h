// tokenizer.model: a vocabulary as SentencePiece keeps it (its sentencepiece_model.proto, a protocol buffer).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hone {

struct SentencePieceFile {
  enum Type { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  struct Piece {
    std::string text;  // UTF-8, not empty; spaces are U+2581
    float score = 0;
    Type type = normal;
  };
  enum Algorithm { unigram = 1, bpe = 2 };

  std::vector<Piece> pieces;  // by id
  Algorithm algorithm = unigram;
  bool byte_fallback = false, space_behind_words = false;  // of the trainer
  int end = 2;                                             // id of what ends a text; -1: none
  // Of the normalizer.
  std::string character_map;  // CharacterMap's, or nothing
  bool add_space = true, remove_extra_spaces = true, escape_spaces = true;
  std::vector<std::pair<std::string, std::string>> samples;  // texts, and the pieces they are, blanks between them
};

// Throws Error(input) naming `where` for bytes that are no such file, and for an algorithm that is not understood (word,
// character).
SentencePieceFile parse_sentence_piece(std::string_view bytes, const std::string& where);

// The bytes of such a file; its samples are left out.
std::string sentence_piece_bytes(const SentencePieceFile& file);

}  // namespace hone
