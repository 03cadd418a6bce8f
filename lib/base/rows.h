// Tables of rows with names, by which options and files call them, and enumerations that are places in such tables.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/find_row.h"
#include "base/kind_name.h"
#include "base/spelling.h"

namespace hone {

// In the order of the table.
template <class Rows>
std::vector<std::string> names_of_rows(const Rows& rows) {
  std::vector<std::string> names;
  for (const auto& row : rows) names.emplace_back(row.name);
  return names;
}

// How rows with numbers are written: "window:SIZE[:SINKS]".
template <class Rows>
std::vector<std::string> forms_of_rows(const Rows& rows) {
  std::vector<std::string> forms;
  for (const auto& row : rows) forms.emplace_back(row.form);
  return forms;
}

// Of one whose name somebody gave, the place (as find_row()) or the row. Throws as unknown_name() where there is none;
// `what` is what they are rows of: "schedule".
template <class Enum, class Rows>
Enum place_called(const Rows& rows, std::string_view name, std::string_view what) {
  if (const std::optional<Enum> found = find_row<Enum>(rows, name)) return *found;
  throw unknown_name(what, name, names_of_rows(rows));
}
template <class Rows>
const auto& row_called(const Rows& rows, std::string_view name, std::string_view what) {
  return rows[place_called<size_t>(rows, name, what)];
}
// The same by find_form(), of a name with its numbers.
template <class Rows>
const auto& form_called(const Rows& rows, std::string_view name, std::string_view what) {
  if (const std::optional<size_t> found = find_form<size_t>(rows, name)) return rows[*found];
  throw unknown_name(what, name, forms_of_rows(rows));
}

// "NAME (WHAT), NAME (WHAT) or NAME (WHAT)", of rows that also say for people what they are.
template <class Rows>
std::string rows_in_words(const Rows& rows) {
  std::vector<std::string> words;
  for (const auto& row : rows) words.push_back(std::string(row.name) + " (" + std::string(row.what) + ")");
  return either_of(words);
}

}  // namespace hone
