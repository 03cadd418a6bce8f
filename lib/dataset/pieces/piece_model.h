// The last stage of a tokenizer of others: a piece of text to tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "dataset/pieces/part.h"

namespace hone {

// Remembers what it has met; for one thread.
class PieceEncoder {
 public:
  virtual ~PieceEncoder() = default;
  virtual void append(std::string_view piece, std::vector<int32_t>& out) = 0;
};

class PieceModel {
 public:
  virtual ~PieceModel() = default;
  virtual std::unique_ptr<PieceEncoder> encoder() const = 0;
  // The texts of its tokens by id, bytes where the model is of bytes; empty where an id is none's.
  virtual const std::vector<std::string>& texts() const = 0;
};

// `byte_level`: pieces are bytes, which the vocabulary writes as letters. Throws Error(input) naming a part that is not
// understood, and for merges and scores that name no token.
std::unique_ptr<const PieceModel> make_piece_model(const TokenizerPart& part, bool byte_level);

constexpr int32_t most_piece_tokens = 1 << 22;

std::unique_ptr<const PieceModel> make_bpe_model(const TokenizerPart& part, bool byte_level);      // bpe_model.cpp
std::unique_ptr<const PieceModel> make_unigram_model(const TokenizerPart& part, bool byte_level);  // unigram_model.cpp

// "<0x0A>" -> 10; -1 for other texts. What byte fallback calls the tokens of bytes.
int byte_of_name(std::string_view text);
std::string name_of_byte(int byte);

}  // namespace hone
