// Promised arrays that are read in pieces while a model is written. Private to this room.
#pragma once

#include <vector>

#include "io/entry.h"
#include "io/model_file.h"

namespace hone {

// Sets their checksums. Throws Error(input) naming the array that cannot be read or has a number that is NaN or
// infinite, and Stopped.
void set_read_checksums(std::vector<Entry*> entries, const ArrayReader& read);

// Puts them into their places in a file. Returns 0 or an errno of writing; throws as the above.
int write_read(int fd, const std::vector<Entry*>& entries, const ArrayReader& read);

}  // namespace hone
