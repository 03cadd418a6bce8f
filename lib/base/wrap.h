// Text in lines.
#pragma once

#include <cstddef>
#include <string>

namespace hone {

// `text` in lines of at most `width` characters, broken at blanks; before all lines but the first, `indent` blanks
// more. A longer word has a line of its own.
std::string wrapped(const std::string& text, size_t width, size_t indent);

}  // namespace hone
