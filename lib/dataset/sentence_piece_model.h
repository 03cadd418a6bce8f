// Normalized text to tokens, as SentencePiece does it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dataset/sentence_piece_file.h"

namespace hone {

// Immutable, shared between threads.
class SentencePieceModel {
 public:
  virtual ~SentencePieceModel() = default;
  virtual void append(std::string_view normalized, std::vector<int32_t>& out) const = 0;

  // Bytes of the longest piece of a user's that `text` begins with, which is taken as it is before all else; or 0.
  size_t user_defined(std::string_view text) const;

 protected:
  explicit SentencePieceModel(const SentencePieceFile& file);

  const SentencePieceFile::Piece& piece(int32_t id) const { return pieces_[static_cast<size_t>(id)]; }
  int32_t matched(std::string_view text) const;  // of a piece that text may match; -1: none
  // Adds a piece, of what none is its bytes, or the unknown token: once for what follows one another.
  class Writer;

  std::vector<SentencePieceFile::Piece> pieces_;
  std::unordered_map<std::string_view, int32_t> ids_;  // of normal, user-defined and unused pieces; into pieces_
  std::vector<std::string_view> users_;                // the longest first
  size_t longest_ = 0;
  int32_t unknown_ = -1;
  int32_t bytes_[256];  // ids; -1: none
  bool byte_fallback_;
};

std::unique_ptr<const SentencePieceModel> make_sentence_piece_model(const SentencePieceFile& file);

}  // namespace hone
