#include "io/checksum.h"

#include <fmt/format.h>
#include <xxhash.h>

namespace hone {

std::string checksum_of(const void* data, size_t bytes) {
  return fmt::format("{:016x}", XXH3_64bits(data, bytes));
}

}  // namespace hone
