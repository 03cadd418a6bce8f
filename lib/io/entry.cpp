#include "io/entry.h"

#include <fmt/format.h>

#include <algorithm>

namespace hone {
namespace {

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

}  // namespace

std::string Entry::where() const {
  switch (section) {
    case Section::text:
      return fmt::format("dataset '{}'", name);
    case Section::parameter:
      return fmt::format("parameter '{}' dataset '{}'", owner, name);
    case Section::run:
      return fmt::format("run array '{}'", name);
  }
  return name;
}

bool is_component(std::string_view name) {
  return !name.empty() && name.size() <= 255 && std::all_of(name.begin(), name.end(), is_plain);
}

bool is_run_name(std::string_view name) {
  return !name.empty() && name.size() <= 1024 && name != "." && name != ".." &&
         std::all_of(name.begin(), name.end(), [](char c) { return is_plain(c) || c == '.'; });
}

bool bytes_of(const Shape& shape, DType dtype, uint64_t& bytes) {
  // An empty array may hide a product that does not fit, so zeros count as ones here.
  int64_t product = static_cast<int64_t>(size_of(dtype));
  bool empty = false;
  for (const int64_t d : shape) {
    if (d < 0 || __builtin_mul_overflow(product, std::max<int64_t>(d, 1), &product)) return false;
    empty = empty || d == 0;
  }
  bytes = empty ? 0 : static_cast<uint64_t>(product);
  return true;
}

}  // namespace hone
