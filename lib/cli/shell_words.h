// Text in the scripts of shells.
#pragma once

#include <string>
#include <string_view>

namespace hone::cli {

std::string replaced(std::string text, std::string_view from, std::string_view to);

std::string shell_quoted(std::string_view text);  // between two ', as every shell takes it

}  // namespace hone::cli
