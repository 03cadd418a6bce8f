// Memory of one piece of work, apart from all else that this process holds.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace hone::cli {

// Runs `work` in a copy of this process and returns its numbers; none if it failed there, where it also prints nothing.
// Call it while this process is small: the copy starts with its memory.
std::vector<int64_t> in_own_process(const std::function<std::vector<int64_t>()>& work);

}  // namespace hone::cli
