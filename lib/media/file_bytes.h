// Whole files in memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hone::media {

// Throws Error(input) with the path for a file that cannot be read, is a folder, or is larger than a gibibyte.
std::vector<uint8_t> read_bytes(const std::string& path);

}  // namespace hone::media
