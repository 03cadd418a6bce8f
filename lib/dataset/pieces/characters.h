// Characters of valid UTF-8 and what they are.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace hone {

std::vector<uint32_t> characters_of(std::string_view text);
bool is_ascii(std::string_view text);
bool is_white_space(uint32_t character);  // Unicode's White_Space
bool is_number(uint32_t character);       // categories Nd, Nl, No
bool is_punctuation(uint32_t character);  // categories P…, and ASCII's signs
bool is_word(uint32_t character);         // what \w matches: letters, marks, numbers, connectors

}  // namespace hone
