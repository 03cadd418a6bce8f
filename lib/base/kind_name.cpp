#include "base/kind_name.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "base/spelling.h"

namespace hone {

std::vector<int64_t> numbers_of(const std::string& what, const std::string& name, const std::string& form) {
  std::vector<int64_t> numbers;
  for (size_t colon = name.find(':'); colon != std::string::npos; colon = name.find(':', colon + 1)) {
    const char* begin = name.data() + colon + 1;
    const char* end = name.data() + std::min(name.find(':', colon + 1), name.size());
    int64_t number = 0;
    const auto [stop, error] = std::from_chars(begin, end, number);
    if (stop == end && begin != end && *begin != '-' && (error == std::errc::result_out_of_range || number > INT32_MAX))
      throw usage_error("{} '{}': {} is too large: at most {}", what, name, std::string(begin, end), INT32_MAX);
    if (begin == end || stop != end || error != std::errc() || number < 0)
      throw usage_error("{} '{}': '{}' is not a whole number; write {}", what, name, std::string(begin, end), form);
    numbers.push_back(number);
  }
  const auto most = static_cast<size_t>(std::count(form.begin(), form.end(), ':'));
  const auto least = most - static_cast<size_t>(std::count(form.begin(), form.end(), '['));
  if (numbers.size() < least || numbers.size() > most)
    throw usage_error("{} '{}' has {}; write {}", what, name, counted(numbers.size(), "number"), form);
  return numbers;
}

Error unknown_name(std::string_view what, std::string_view name, std::span<const std::string> forms) {
  std::vector<std::string> names;
  for (const std::string& form : forms) names.emplace_back(first_word(form));
  return usage_error("unknown {} '{}'; known: {}{}", what, name, fmt::join(forms, ", "),
                     did_you_mean(first_word(name), names));
}

}  // namespace hone
