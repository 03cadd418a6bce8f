// Numbers that are not numbers, by pieces of an array.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace hone {

// How many of the elements are NaN or infinite, by this thread; 0 where they are integers. `bytes` need no alignment.
int64_t count_nonfinite(std::span<const std::byte> bytes, DType dtype);

}  // namespace hone
