// The place of a name in a table of rows, for code that may have neither texts nor containers (instruction sets'
// files).
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace hone {

// Of a name or of a form, how a name is written: "window" of "window:64" and of "window:SIZE[:SINKS]".
constexpr std::string_view first_word(std::string_view name) {
  return name.substr(0, name.find_first_of(":["));
}

// Enum: an enumeration whose values are places in the table, from `first` on. None: no row fits.
template <class Enum, class Rows, class Fits>
constexpr std::optional<Enum> find_place(const Rows& rows, size_t first, Fits fits) {
  size_t place = first;
  for (const auto& row : rows) {
    if (fits(row)) return static_cast<Enum>(place);
    ++place;
  }
  return std::nullopt;
}

// Of the row with that name.
template <class Enum, class Rows>
constexpr std::optional<Enum> find_row(const Rows& rows, std::string_view name, size_t first = 0) {
  return find_place<Enum>(rows, first, [name](const auto& row) { return row.name == name; });
}

// Of the row whose form begins with the first word of the name.
template <class Enum, class Rows>
constexpr std::optional<Enum> find_form(const Rows& rows, std::string_view name, size_t first = 0) {
  return find_place<Enum>(rows, first, [name](const auto& row) { return first_word(row.form) == first_word(name); });
}

// Of a name that the program itself says: one that is not in the table does not compile.
template <class Enum, class Rows>
consteval Enum row_named(const Rows& rows, std::string_view name, size_t first = 0) {
  if (const std::optional<Enum> found = find_row<Enum>(rows, name, first)) return *found;
  throw "no such row";
}
template <class Enum, class Rows>
consteval Enum form_named(const Rows& rows, std::string_view name, size_t first = 0) {
  if (const std::optional<Enum> found = find_form<Enum>(rows, name, first)) return *found;
  throw "no such row";
}

}  // namespace hone
