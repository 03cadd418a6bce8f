// Bytes as text of 64 signs (RFC 4648), as JSON can hold them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace hone {

std::string to_base64(std::string_view bytes);
std::optional<std::string> from_base64(std::string_view text);  // nothing where it is none

}  // namespace hone
