// Lists of numbers from all ranks.
#pragma once

#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "comm/communicator.h"

namespace hone {

// gather_agreed() of what each rank's f() lists, by rank. Values go as their bytes: all ranks run one build.
template <class Value>
requires std::is_trivially_copyable_v<Value> std::vector<std::vector<Value>> gather_lists(
    Communicator& ranks, const std::function<std::vector<Value>()>& f) {
  std::vector<std::vector<Value>> lists;
  for (const std::string& bytes : gather_agreed(ranks, [&] {
         const std::vector<Value> mine = f();
         return std::string(reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(Value));
       })) {
    std::vector<Value>& list = lists.emplace_back(bytes.size() / sizeof(Value));
    if (!list.empty()) std::memcpy(list.data(), bytes.data(), list.size() * sizeof(Value));
  }
  return lists;
}

}  // namespace hone
