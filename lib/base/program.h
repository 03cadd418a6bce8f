// The name under which this program was started, as messages use it.
#pragma once

#include <string>
#include <string_view>

namespace hone {

// Tools are `train` in the build tree and `hone-train` where they are installed. Call it first in main(), with argv[0];
// `name` is the tool's own, for a caller that gives none.
void set_program(const char* path, std::string_view name);

std::string program_name();  // the last part of its path: "hone-train"; "hone train" where `hone` started it

// The command of another tool of the same installation: "prune" is "hone-prune" beside a hone-train.
std::string command_name(std::string_view tool);

}  // namespace hone
