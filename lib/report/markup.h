// Text in HTML and SVG.
#pragma once

#include <string>
#include <string_view>

namespace hone {

std::string html_escaped(std::string_view text);

}  // namespace hone
