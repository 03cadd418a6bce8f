// Temporaries beside a file that is being written. Their names tell the file, the process and the machine, so that what
// a killed process left can be told from what another one is writing. Private to this room.
#pragma once

#include <string>

namespace hone {

// Creates an empty file beside `file`, with a name of its own. Throws Error(input) in the name of `shown`.
std::string make_temporary(const std::string& file, const std::string& shown);

// Removes temporaries of `file` whose processes ran on this machine and are gone; says so. Looks once for a file.
void clear_leftovers(const std::string& file);

size_t longest_name(const std::string& directory);  // in bytes

}  // namespace hone
