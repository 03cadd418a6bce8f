// Checksums of arrays and texts in a model file.
#pragma once

#include <cstddef>
#include <string>

namespace hone {

// XXH3 with 64 bits and seed 0 of the bytes as they lie in the file, as 16 lower-case hexadecimal digits. Where a
// stop is wanted the result is of a part alone: call check_stop() before it is used.
std::string checksum_of(const void* data, size_t bytes);

}  // namespace hone
