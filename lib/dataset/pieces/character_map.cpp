#include "dataset/pieces/character_map.h"

#include <cstring>

#include "base/error.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

// Bits of a unit.
uint32_t offset_of(uint32_t unit) {
  return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}
bool has_value(uint32_t unit) {
  return (unit >> 8 & 1) != 0;
}
uint32_t label_of(uint32_t unit) {  // of a leaf larger than any byte
  return unit & (1u << 31 | 0xff);
}
uint32_t value_of(uint32_t unit) {
  return unit & ~(1u << 31);
}

}  // namespace

CharacterMap::CharacterMap(std::string_view bytes, const std::string& part) {
  uint32_t size = 0;
  if (bytes.size() < 4) throw input_error("{} is too short for a table of characters", part);
  std::memcpy(&size, bytes.data(), 4);  // little-endian, as all that Hone runs on
  if (size % 4 != 0 || size == 0 || size > bytes.size() - 4)
    throw input_error("{}: its trie of {} bytes is not within the {} there are", part, size, bytes.size() - 4);
  units_.resize(size / 4);
  std::memcpy(units_.data(), bytes.data() + 4, size);
  texts_ = bytes.substr(4 + size);
  if (!texts_.empty() && texts_.back() != '\0') throw input_error("{}: its last text has no end", part);
  if (valid_utf8_prefix(texts_) != texts_.size()) throw input_error("{}: its texts are not UTF-8", part);
}

// What is outside the array belongs to no entry: a damaged table finds less.
std::optional<CharacterMap::Match> CharacterMap::find(std::string_view text, bool longest) const {
  std::optional<Match> best;
  size_t at = offset_of(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    at ^= byte;
    if (at >= units_.size() || label_of(units_[at]) != byte) break;
    const uint32_t unit = units_[at];
    at ^= offset_of(unit);
    if (!has_value(unit) || at >= units_.size()) continue;
    const size_t value = value_of(units_[at]);
    // Into the middle of a character an entry would give half of it.
    if (value >= texts_.size() || (static_cast<unsigned char>(texts_[value]) & 0xc0) == 0x80) continue;
    best = Match{i + 1, std::string_view(texts_.data() + value)};
    if (!longest) break;
  }
  return best;
}

}  // namespace hone
