// What the library says in words, and the option that a user says it with.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace hone::cli {

// "'x.h5' exists, and is replaced by force (--force) only": the first mention of each thing that the tool has an option
// for, unless the message names that option already.
std::string with_options(const std::string& message, const CLI::App& app);

}  // namespace hone::cli
