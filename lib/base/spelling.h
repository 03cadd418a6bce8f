// Names in messages: what a person may have meant by one that is not known, and lists of them.
#pragma once

#include <fmt/format.h>

#include <concepts>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hone {

// How many characters must be inserted, removed, replaced or exchanged with their neighbour to turn `a` into `b`: the
// optimal string alignment distance.
int edit_distance(std::string_view a, std::string_view b);

// The one of `names` that `word` is most likely a slip of: alike but for case, dashes and underscores; or a few edits
// away; or longer, with `word` (3 characters or more) as its beginning. "" where none is near.
std::string nearest_name(std::string_view word, std::span<const std::string> names);

// "; did you mean 'steps'?", or nothing.
std::string did_you_mean(std::string_view word, std::span<const std::string> names);

std::string lower_case(std::string_view text);  // of ASCII's letters

std::string either_of(std::span<const std::string> names);  // "a, b or c"
std::string each_of(std::span<const std::string> names);    // "a, b and c"

std::string plural(std::string_view noun);  // "layers", "matrices", "entries", "batches"
// "1 layer", "12 layers", "0 layers".
template <std::integral Count>
std::string counted(Count count, std::string_view noun) {
  return fmt::format("{} {}", count, count == 1 ? std::string(noun) : plural(noun));
}
std::string with_article(std::string_view noun);  // "an image", "a sound"; quotes before its first letter do not count

}  // namespace hone
