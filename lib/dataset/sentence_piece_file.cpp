#include "dataset/sentence_piece_file.h"

#include <cmath>
#include <cstring>
#include <functional>

#include "base/error.h"
#include "dataset/pieces/piece_model.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

// The fields of one message (https://protobuf.dev/programming-guides/encoding).
class Message {
 public:
  Message(std::string_view bytes, const std::string& where) : rest_(bytes), where_(where) {}

  struct Field {
    uint64_t number = 0, value = 0;  // value of a varint
    std::string_view bytes;          // of a text, a message or a fixed number
  };
  bool next(Field& field) {
    if (rest_.empty()) return false;
    const uint64_t key = varint();
    field = {key >> 3, 0, {}};
    switch (key & 7) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.bytes = take(8);
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5:
        field.bytes = take(4);
        break;
      default:
        throw broken();
    }
    return true;
  }
  Error broken() const { return input_error("{} is no tokenizer.model of SentencePiece, or damaged", where_); }
  float number(const Field& field) const {
    float value = 0;
    if (field.bytes.size() != 4) throw broken();
    std::memcpy(&value, field.bytes.data(), 4);
    if (!std::isfinite(value)) throw broken();
    return value;
  }
  std::string text(const Field& field) const {
    if (valid_utf8_prefix(field.bytes) != field.bytes.size()) throw broken();
    return std::string(field.bytes);
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    throw broken();
  }
  std::string_view take(uint64_t count) {
    if (count > rest_.size()) throw broken();
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  std::string_view rest_;
  const std::string& where_;
};

using Fields = std::function<void(const Message& message, const Message::Field& field)>;

void each_field(std::string_view bytes, const std::string& where, const Fields& f) {
  Message message(bytes, where);
  for (Message::Field field; message.next(field);) f(message, field);
}

SentencePieceFile::Piece read_piece(std::string_view bytes, const std::string& where) {
  SentencePieceFile::Piece piece;
  each_field(bytes, where, [&](const Message& message, const Message::Field& field) {
    if (field.number == 1) piece.text = message.text(field);
    if (field.number == 2) piece.score = message.number(field);
    if (field.number != 3) return;
    if (field.value < 1 || field.value > 6) throw message.broken();
    piece.type = static_cast<SentencePieceFile::Type>(field.value);
  });
  if (piece.text.empty()) throw input_error("{}: a piece is empty", where);
  if (piece.type == SentencePieceFile::byte && byte_of_name(piece.text) < 0)
    throw input_error("{}: '{}' is the name of no byte", where, piece.text);
  return piece;
}

void read_trainer(std::string_view bytes, const std::string& where, SentencePieceFile& file) {
  uint64_t algorithm = file.algorithm;
  each_field(bytes, where, [&](const Message&, const Message::Field& field) {
    if (field.number == 3) algorithm = field.value;
    if (field.number == 24) file.space_behind_words = field.value != 0;
    if (field.number == 35) file.byte_fallback = field.value != 0;
    if (field.number == 41) file.end = static_cast<int32_t>(field.value);
  });
  if (algorithm != SentencePieceFile::unigram && algorithm != SentencePieceFile::bpe)
    throw input_error("{}: its model_type {} is not understood; unigram and bpe are", where, algorithm);
  file.algorithm = static_cast<SentencePieceFile::Algorithm>(algorithm);
}

void read_normalizer(std::string_view bytes, const std::string& where, SentencePieceFile& file) {
  each_field(bytes, where, [&](const Message&, const Message::Field& field) {
    if (field.number == 2) file.character_map = field.bytes;
    if (field.number == 3) file.add_space = field.value != 0;
    if (field.number == 4) file.remove_extra_spaces = field.value != 0;
    if (field.number == 5) file.escape_spaces = field.value != 0;
  });
}

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void put_number(std::string& out, uint64_t field, uint64_t value) {
  put_varint(out, field << 3);
  put_varint(out, value);
}

void put_text(std::string& out, uint64_t field, std::string_view text) {
  put_varint(out, field << 3 | 2);
  put_varint(out, text.size());
  out += text;
}

void read_samples(std::string_view bytes, const std::string& where, SentencePieceFile& file) {
  each_field(bytes, where, [&](const Message&, const Message::Field& sample) {
    if (sample.number != 1) return;
    auto& [text, pieces] = file.samples.emplace_back();
    each_field(sample.bytes, where, [&](const Message&, const Message::Field& field) {
      if (field.number == 1) text = field.bytes;
      if (field.number == 2) pieces = field.bytes;
    });
  });
}

}  // namespace

SentencePieceFile parse_sentence_piece(std::string_view bytes, const std::string& where) {
  SentencePieceFile file;
  each_field(bytes, where, [&](const Message&, const Message::Field& field) {
    if (field.number == 1) file.pieces.push_back(read_piece(field.bytes, where));
    if (field.number == 2) read_trainer(field.bytes, where, file);
    if (field.number == 3) read_normalizer(field.bytes, where, file);
    if (field.number == 4) read_samples(field.bytes, where, file);
  });
  if (file.pieces.empty()) throw Message(bytes, where).broken();
  if (file.pieces.size() > static_cast<size_t>(most_piece_tokens))
    throw input_error("{} has {} pieces, more than any vocabulary", where, file.pieces.size());
  if (file.end >= static_cast<int>(file.pieces.size())) file.end = -1;
  return file;
}

std::string sentence_piece_bytes(const SentencePieceFile& file) {
  std::string out;
  for (const SentencePieceFile::Piece& piece : file.pieces) {
    std::string message;
    put_text(message, 1, piece.text);
    put_varint(message, 2 << 3 | 5);
    message.append(reinterpret_cast<const char*>(&piece.score), sizeof piece.score);
    put_number(message, 3, piece.type);
    put_text(out, 1, message);
  }
  std::string trainer, normalizer;
  put_number(trainer, 3, file.algorithm);
  put_number(trainer, 24, file.space_behind_words);
  put_number(trainer, 35, file.byte_fallback);
  put_number(trainer, 41, static_cast<uint64_t>(static_cast<int64_t>(file.end)));
  put_text(out, 2, trainer);
  if (!file.character_map.empty()) put_text(normalizer, 2, file.character_map);
  put_number(normalizer, 3, file.add_space);
  put_number(normalizer, 4, file.remove_extra_spaces);
  put_number(normalizer, 5, file.escape_spaces);
  put_text(out, 3, normalizer);
  return out;
}

}  // namespace hone
