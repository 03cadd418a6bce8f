// The second stage of a tokenizer of others: text to the pieces that tokens stay within.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "dataset/pieces/part.h"

namespace hone {

// Pieces of one text, in order, and the texts that they lie in where they are not as they were.
struct Pieces {
  struct Piece {
    std::string_view text;  // valid UTF-8
    bool starts = false;    // begins the text that was given
  };
  std::vector<Piece> list;
  std::deque<std::string> made;
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void split(Pieces& pieces) const = 0;
  // The pieces are bytes from here on, which the vocabulary writes as letters (dataset/byte_letters.h).
  virtual bool byte_level() const { return false; }
  // Cut between a letter and a space that another letter follows, a text has the pieces of its parts.
  virtual bool cuts_at_spaces() const { return false; }
};

// Throws Error(input) naming a part that is not understood.
std::unique_ptr<const PreTokenizer> make_pre_tokenizer(const TokenizerPart& part);

}  // namespace hone
