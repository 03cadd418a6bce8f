// The texts that are installed beside a program: its man page, and completions for bash, zsh and fish.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/option_list.h"

namespace hone::cli {

// `PROGRAM --write-manual FOLDER` writes them and ends: what the build calls, for no person, and so in no --help.
constexpr std::string_view manual_flag = "--write-manual";

// Below `folder`, under the names by which man and the shells look for them in share/. Throws Error(input).
void write_manual(const std::string& folder, const OptionList& program);

// roff, section 1.
std::string man_page(const OptionList& program);

std::string bash_completion(const OptionList& program);
std::string zsh_completion(const OptionList& program);
std::string fish_completion(const OptionList& program);

// The same of `hone`, the command in front of the tools: what it completes behind a tool's name are that tool's.
void write_front_manual(const std::string& folder);

}  // namespace hone::cli
