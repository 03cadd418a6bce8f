#include "dataset/byte_letters.h"

#include <array>
#include <cstdint>

#include "dataset/utf8.h"

namespace hone {
namespace {

struct Letters {
  std::array<uint32_t, 256> of_byte{};
  std::array<int, 512> byte{};  // by character, -1: none
  Letters() {
    byte.fill(-1);
    uint32_t next = 256;
    for (uint32_t b = 0; b < 256; ++b) {
      const bool itself = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      of_byte[b] = itself ? b : next++;
      byte[of_byte[b]] = static_cast<int>(b);
    }
  }
};

const Letters& letters() {
  static const Letters table;
  return table;
}

}  // namespace

std::string letters_of_bytes(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) append_utf8(letters().of_byte[static_cast<unsigned char>(c)], text);
  return text;
}

std::optional<std::string> bytes_of_letters(std::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    const Utf8Front front = utf8_front(text);
    if (front.kind != Utf8Front::valid) return std::nullopt;
    const uint32_t c = code_point(text.substr(0, front.length));
    if (c >= 512 || letters().byte[c] < 0) return std::nullopt;
    bytes += static_cast<char>(letters().byte[c]);
    text.remove_prefix(front.length);
  }
  return bytes;
}

}  // namespace hone
