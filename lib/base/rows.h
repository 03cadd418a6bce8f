// Tables of rows with names, by which options and files call them, and enumerations that are places in such tables.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/spelling.h"

namespace hone {

// Enum: an enumeration whose values are places in the table. None: no row has that name.
template <class Enum, class Rows>
constexpr std::optional<Enum> find_row(const Rows& rows, std::string_view name) {
  size_t place = 0;
  for (const auto& row : rows) {
    if (row.name == name) return static_cast<Enum>(place);
    ++place;
  }
  return std::nullopt;
}

// Of a name that the program itself says: one that is not in the table does not compile.
template <class Enum, class Rows>
consteval Enum row_named(const Rows& rows, std::string_view name) {
  if (const std::optional<Enum> found = find_row<Enum>(rows, name)) return *found;
  throw "no such row";
}

// In the order of the table.
template <class Rows>
std::vector<std::string> names_of_rows(const Rows& rows) {
  std::vector<std::string> names;
  for (const auto& row : rows) names.emplace_back(row.name);
  return names;
}

// "NAME (WHAT), NAME (WHAT) or NAME (WHAT)", of rows that also say for people what they are.
template <class Rows>
std::string rows_in_words(const Rows& rows) {
  std::vector<std::string> words;
  for (const auto& row : rows) words.push_back(std::string(row.name) + " (" + std::string(row.what) + ")");
  return either_of(words);
}

}  // namespace hone
