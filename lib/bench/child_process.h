// A process for each model, so that what one takes of memory is not counted for the next.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace hone {

// Runs `work` with `threads` threads in a copy of this process and returns what it returns (numbers keep their bits,
// NaN included). An Error thrown there is thrown here. Where the copy ends by signal N, or a signal that this process
// catches asks it to end, throws an Error of exit status 128 + N that begins with `what`. Call it while this process is
// small: the copy starts with its memory. The copy does not outlive this process.
nlohmann::json in_child(const std::string& what, int threads, const std::function<nlohmann::json()>& work);

}  // namespace hone
