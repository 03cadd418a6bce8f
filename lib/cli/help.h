// The text of --help.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

namespace hone::cli {

// Columns of what standard output shows: COLUMNS where it is set, else the terminal's, else 100; from 40 to 200.
int help_width();

// Wraps at `width`. `required` names options and positionals that a tool demands though the parser does not.
std::shared_ptr<CLI::Formatter> help_formatter(int width, std::vector<std::string> required);

// `text` in lines of at most `width` characters, broken at blanks; before all lines but the first, `indent` blanks
// more. A longer word has a line of its own.
std::string wrapped(const std::string& text, size_t width, size_t indent);

}  // namespace hone::cli
