// The place of a name in a table of rows, for code that may have neither texts nor containers (instruction sets'
// files).
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace hone {

// Enum: an enumeration whose values are places in the table, from `first` on. None: no row has that name.
template <class Enum, class Rows>
constexpr std::optional<Enum> find_row(const Rows& rows, std::string_view name, size_t first = 0) {
  size_t place = first;
  for (const auto& row : rows) {
    if (row.name == name) return static_cast<Enum>(place);
    ++place;
  }
  return std::nullopt;
}

// Of a name that the program itself says: one that is not in the table does not compile.
template <class Enum, class Rows>
consteval Enum row_named(const Rows& rows, std::string_view name, size_t first = 0) {
  if (const std::optional<Enum> found = find_row<Enum>(rows, name, first)) return *found;
  throw "no such row";
}

}  // namespace hone
