#include "base/wrap.h"

#include <algorithm>
#include <sstream>

namespace hone {
namespace {

// Bytes that continue a UTF-8 character take no room.
size_t characters(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](unsigned char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

std::string wrapped(const std::string& text, size_t width, size_t indent) {
  std::string result;
  size_t used = 0;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const size_t length = characters(word);
    if (used > 0 && used + 1 + length > width) {
      result += "\n" + std::string(indent, ' ');
      used = 0;
    } else if (used > 0) {
      result += ' ';
      ++used;
    }
    result += word;
    used += length;
  }
  return result;
}

}  // namespace hone
