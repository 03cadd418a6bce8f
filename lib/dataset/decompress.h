// gzip and zstd data to text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "dataset/file_kind.h"

namespace hone {

// A text in memory, with what keeps it there.
struct OwnedText {
  std::string_view text;
  std::shared_ptr<const void> owner;
};

// All members or frames of `packed`, one behind the other; zeros behind the last are padding. Works a part at a time:
// beyond `packed` the memory is that of the result. Throws Error(input) with `name` for data that ends early, is
// damaged or is followed by something else, and for a result of more than `most` bytes.
OwnedText decompress(Compression compression, std::string_view packed, const std::string& name, uint64_t most);

uint64_t free_memory();  // bytes that this process may still take, as far as the system says; else the largest number

}  // namespace hone
