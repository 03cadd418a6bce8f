#include "base/spelling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace hone {
namespace {

bool is_vowel(char c) {
  return std::string_view("aeiou").find(c) != std::string_view::npos;
}

// Without what people confuse: case, - and _, and dashes in front.
std::string plain(std::string_view name) {
  name.remove_prefix(std::min(name.find_first_not_of('-'), name.size()));
  std::string result;
  for (const char c : lower_case(name)) result += c == '_' ? '-' : c;
  return result;
}

std::string listed(std::span<const std::string> names, const char* last) {
  std::string list;
  for (size_t i = 0; i < names.size(); ++i)
    list += fmt::format("{}{}", i == 0 ? "" : i + 1 == names.size() ? last : ", ", names[i]);
  return list;
}

}  // namespace

int edit_distance(std::string_view a, std::string_view b) {
  std::vector<int> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

std::string nearest_name(std::string_view word, std::span<const std::string> names) {
  constexpr size_t longest = 64;  // what is longer is no slip of a name
  const std::string typed = plain(word);
  if (typed.empty() || typed.size() > longest) return "";
  std::string best;
  int least = std::max(1, static_cast<int>(typed.size()) / 3) + 1;  // one letter in three may be wrong
  for (const std::string& name : names) {
    const std::string known = plain(name);
    // A single letter is near everything that is as short.
    const int distance = typed.size() < 2 && known != typed ? least : edit_distance(typed, known);
    if (distance < least && distance < static_cast<int>(std::max(typed.size(), known.size()))) {
      least = distance;
      best = name;
    }
  }
  if (!best.empty() || typed.size() < 3) return best;
  for (const std::string& name : names)
    if (plain(name).starts_with(typed) && (best.empty() || name.size() < best.size())) best = name;
  return best;
}

std::string did_you_mean(std::string_view word, std::span<const std::string> names) {
  const std::string name = nearest_name(word, names);
  return name.empty() ? "" : fmt::format("; did you mean '{}'?", name);
}

std::string lower_case(std::string_view text) {
  std::string result;
  for (const unsigned char c : text) result += static_cast<char>(std::tolower(c));
  return result;
}

std::string either_of(std::span<const std::string> names) {
  return listed(names, " or ");
}

std::string each_of(std::span<const std::string> names) {
  return listed(names, " and ");
}

std::string plural(std::string_view noun) {
  const auto with = [&](size_t cut, std::string_view ending) {
    return fmt::format("{}{}", noun.substr(0, noun.size() - cut), ending);
  };
  if (noun.ends_with("rix")) return with(1, "ces");
  if (noun.size() > 1 && noun.ends_with('y') && !is_vowel(noun[noun.size() - 2])) return with(1, "ies");
  const bool hisses = noun.ends_with('s') || noun.ends_with('x') || noun.ends_with("ch") || noun.ends_with("sh");
  return with(0, hisses ? "es" : "s");
}

std::string with_article(std::string_view noun) {
  const size_t first = noun.find_first_not_of("\"'");
  const bool vowel = first != noun.npos && is_vowel(noun[first]);
  return fmt::format("{} {}", vowel ? "an" : "a", noun);
}

}  // namespace hone
