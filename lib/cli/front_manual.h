// Man page and completions of `hone`, the command in front of the tools.
#pragma once

#include <string>
#include <string_view>

namespace hone::cli {

std::string front_man_page();
std::string front_bash_completion();
std::string front_zsh_completion();
std::string front_fish_completion();

// Of every man page: its title with NAME, and what stands behind all that is the program's own.
std::string man_head(const std::string& program, std::string_view summary);
std::string man_tail();

}  // namespace hone::cli
