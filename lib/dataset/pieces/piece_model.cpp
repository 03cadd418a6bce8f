#include "dataset/pieces/piece_model.h"

namespace hone {
namespace {

struct Row {
  const char* type;
  std::unique_ptr<const PieceModel> (*make)(const TokenizerPart&, bool);
};

// Every kind there is.
constexpr Row rows[] = {{"BPE", make_bpe_model}, {"Unigram", make_unigram_model}};

int digit(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

}  // namespace

std::unique_ptr<const PieceModel> make_piece_model(const TokenizerPart& part, bool byte_level) {
  // Files of the first versions do not name it.
  const std::string type = part.has("type") ? part.type() : part.has("merges") ? "BPE" : "Unigram";
  for (const Row& row : rows)
    if (type == row.type) return row.make(part, byte_level);
  throw part.unknown();
}

int byte_of_name(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  const int high = digit(text[3]), low = digit(text[4]);
  return high < 0 || low < 0 ? -1 : 16 * high + low;
}

std::string name_of_byte(int byte) {
  return fmt::format("<0x{:02X}>", byte);
}

}  // namespace hone
