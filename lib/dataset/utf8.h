// UTF-8 as it arrives from files and from tokens: what is valid, and text that becomes complete piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hone {

// What stands at the front of a text. `length` is the bytes of the character; for `invalid` the bytes that can be part
// of no character (the maximal subpart, Unicode 15 section 3.9), for `truncated` all that is there. The text must not
// be empty.
struct Utf8Front {
  enum Kind { valid, invalid, truncated } kind;
  size_t length;
};
Utf8Front utf8_front(std::string_view text);

// Of one valid character: its number, and its bytes added to a text.
uint32_t code_point(std::string_view character);
void append_utf8(uint32_t code_point, std::string& to);

// Bytes of the longest prefix that is valid UTF-8: text.size() when all of it is.
size_t valid_utf8_prefix(std::string_view text);

// Text from tokens whose ends fall inside characters. Bytes that are no part of a character come out as U+FFFD, so that
// what is returned is always valid.
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);  // the text that is complete now
  std::string finish();                      // U+FFFD for a character that never became complete, else nothing

 private:
  std::string pending_;  // the start of a character: at most 3 bytes between calls
};

}  // namespace hone
