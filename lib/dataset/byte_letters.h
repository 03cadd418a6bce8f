// GPT-2's writing of bytes as letters, in which the vocabularies of byte-level tokenizers are kept: printable bytes of
// Latin-1 stand for themselves, the 68 others for U+0100 … U+0143, in order.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace hone {

std::string letters_of_bytes(std::string_view bytes);
// None where a character stands for no byte.
std::optional<std::string> bytes_of_letters(std::string_view letters);

}  // namespace hone
