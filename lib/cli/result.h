// How a tool ends: its result on standard output, or one line that says what went wrong.
#pragma once

#include <string>

namespace hone::cli {

// Writes to stdout and flushes. Throws Error(input) when that fails (a full disk, a closed pipe).
void print_result(const std::string& text);

// One `error:` line on stderr. Returns `status`.
int fail(int status, const std::string& message);

}  // namespace hone::cli
