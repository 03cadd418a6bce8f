#include "dataset/utf8.h"

#include <cstdint>
#include <cstring>

namespace hone {
namespace {

constexpr std::string_view replacement = "\xef\xbf\xbd";

}  // namespace

// The ranges are those of Unicode 15, table 3-7: only the second byte's depends on the first, and it excludes overlong
// forms, surrogates and what lies above U+10FFFF.
Utf8Front utf8_front(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {Utf8Front::valid, 1};
  if (lead < 0xc2 || lead > 0xf4) return {Utf8Front::invalid, 1};
  const size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Utf8Front::truncated, i};
    if (byte(i) < low || byte(i) > high) return {Utf8Front::invalid, i};
    low = 0x80;
    high = 0xbf;
  }
  return {Utf8Front::valid, length};
}

uint32_t code_point(std::string_view character) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(character[i])); };
  if (character.size() == 1) return byte(0);
  uint32_t value = byte(0) & (0x7fu >> character.size());
  for (size_t i = 1; i < character.size(); ++i) value = value << 6 | (byte(i) & 0x3fu);
  return value;
}

void append_utf8(uint32_t c, std::string& to) {
  const auto put = [&](uint32_t byte) { to += static_cast<char>(byte); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xc0 | c >> 6);
  } else {
    if (c < 0x10000) {
      put(0xe0 | c >> 12);
    } else {
      put(0xf0 | c >> 18);
      put(0x80 | (c >> 12 & 0x3f));
    }
    put(0x80 | (c >> 6 & 0x3f));
  }
  put(0x80 | (c & 0x3f));
}

size_t valid_utf8_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    for (uint64_t eight; at + 8 <= text.size(); at += 8) {  // eight ASCII bytes at once
      std::memcpy(&eight, text.data() + at, 8);
      if (eight & 0x8080808080808080u) break;
    }
    if (at == text.size()) break;
    const Utf8Front front = utf8_front(text.substr(at));
    if (front.kind != Utf8Front::valid) break;
    at += front.length;
  }
  return at;
}

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  std::string complete;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const size_t valid = valid_utf8_prefix(rest);
    complete += rest.substr(0, valid);
    rest.remove_prefix(valid);
    if (rest.empty()) break;
    const Utf8Front front = utf8_front(rest);
    if (front.kind == Utf8Front::truncated) break;
    complete += replacement;
    rest.remove_prefix(front.length);
  }
  pending_ = std::string(rest);
  return complete;
}

std::string Utf8Stream::finish() {
  const bool incomplete = !pending_.empty();
  pending_.clear();
  return std::string(incomplete ? replacement : std::string_view());
}

}  // namespace hone
