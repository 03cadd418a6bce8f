#include "dataset/pieces/characters.h"

#include <utf8proc.h>

#include <algorithm>

#include "dataset/utf8.h"

namespace hone {
namespace {

utf8proc_category_t category(uint32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool between(uint32_t c, utf8proc_category_t from, utf8proc_category_t to) {
  const utf8proc_category_t k = category(c);
  return k >= from && k <= to;
}

}  // namespace

std::vector<uint32_t> characters_of(std::string_view text) {
  std::vector<uint32_t> all;
  all.reserve(text.size());
  while (!text.empty()) {
    const size_t length = utf8_front(text).length;
    all.push_back(code_point(text.substr(0, length)));
    text.remove_prefix(length);
  }
  return all;
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool is_white_space(uint32_t c) {
  return (c >= 9 && c <= 13) || c == 0x85 || between(c, UTF8PROC_CATEGORY_ZS, UTF8PROC_CATEGORY_ZP);
}

bool is_number(uint32_t c) {
  return between(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}

bool is_punctuation(uint32_t c) {
  if (c < 0x80)
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
  return between(c, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO);
}

bool is_word(uint32_t c) {
  return between(c, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_NO) || category(c) == UTF8PROC_CATEGORY_PC;
}

}  // namespace hone
