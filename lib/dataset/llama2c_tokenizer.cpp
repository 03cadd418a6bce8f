#include "dataset/llama2c_tokenizer.h"

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "dataset/pieces/piece_model.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

class Bytes {
 public:
  Bytes(std::string_view bytes, const std::string& where) : rest_(bytes), where_(where) {}

  bool empty() const { return rest_.empty(); }
  std::string_view take(size_t count) {
    if (count > rest_.size()) throw broken();
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  Error broken() const { return input_error("{} is no tokenizer.bin of llama2.c, or damaged", where_); }

 private:
  std::string_view rest_;
  const std::string& where_;
};

// The file has blanks where SentencePiece has U+2581, and line ends around what begins and ends a text.
std::string text_of_piece(std::string text, size_t id) {
  if (id == 1 || id == 2) {
    if (text.starts_with('\n')) text.erase(0, 1);
    if (text.ends_with('\n')) text.pop_back();
  }
  for (size_t at = 0; (at = text.find(' ', at)) != text.npos; ++at) text.replace(at, 1, "\xe2\x96\x81");
  return text;
}

}  // namespace

SentencePieceFile parse_llama2c_tokenizer(std::string_view bytes, const std::string& where) {
  SentencePieceFile file;
  file.algorithm = SentencePieceFile::bpe;
  file.byte_fallback = true;
  file.remove_extra_spaces = false;
  Bytes rest(bytes, where);
  if (const auto longest = rest.number<int32_t>(); longest < 1 || longest > 1 << 16) throw rest.broken();
  while (!rest.empty()) {
    SentencePieceFile::Piece piece;
    piece.score = rest.number<float>();
    const auto length = rest.number<int32_t>();
    if (length < 1 || !std::isfinite(piece.score)) throw rest.broken();
    const std::string_view text = rest.take(static_cast<size_t>(length));
    if (valid_utf8_prefix(text) != text.size()) throw rest.broken();
    const size_t id = file.pieces.size();
    piece.text = text_of_piece(std::string(text), id);
    if (piece.text.empty()) throw rest.broken();
    if (id < 3)
      piece.type = id == 0 ? SentencePieceFile::unknown : SentencePieceFile::control;
    else if (byte_of_name(piece.text) >= 0)
      piece.type = SentencePieceFile::byte;
    file.pieces.push_back(std::move(piece));
    if (file.pieces.size() > static_cast<size_t>(most_piece_tokens)) throw rest.broken();
  }
  if (file.pieces.size() < 3) throw rest.broken();
  return file;
}

}  // namespace hone
