// Running a library that may crash in a child process. Private to this room.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

namespace hone {

// Returns what `work` returns, or throws the Error that it throws, but runs it in a child process of bounded memory and
// time, which shares open files with this one and nothing else. Throws Error(input) that says `failure` if the child
// crashes or runs out of either. Where no child can be made, runs it here.
nlohmann::json isolated(const std::function<nlohmann::json()>& work, const std::string& failure);

// To be held by who calls the library in this process. isolated() holds it while it makes a child: one that is made while
// another thread is within the library would find its lock taken, and nobody there to give it back.
std::unique_lock<std::mutex> library_here();

// Within `work`: its bounds from here on allow for this many more bytes of memory. Does nothing outside of a child.
void expect_bytes(uint64_t bytes);

}  // namespace hone
