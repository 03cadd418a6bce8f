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

}  // namespace hone::cli
