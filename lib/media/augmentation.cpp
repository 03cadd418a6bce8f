#include "media/augmentation.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#include <string_view>

#include "base/error.h"

namespace hone::media {

void parse_augmentation(const std::string& text, const std::string& option, std::span<const AugmentationNumber> known) {
  std::set<std::string_view> given;
  for (size_t begin = 0; !text.empty() && begin <= text.size();) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    const std::string word = text.substr(begin, comma - begin);
    begin = comma + 1;
    const size_t colon = word.find(':');
    const auto found = std::find_if(known.begin(), known.end(),
                                    [&](const AugmentationNumber& n) { return n.name == word.substr(0, colon); });
    std::string names;
    for (const AugmentationNumber& n : known) names += fmt::format("{}{}:NUMBER", names.empty() ? "" : ",", n.name);
    if (found == known.end() || colon == word.npos)
      throw usage_error("{} '{}': '{}' is none of {}", option, text, word, names);
    if (!given.insert(found->name).second)
      throw usage_error("{} '{}': {} stands there twice", option, text, found->name);
    const char *digits = word.data() + colon + 1, *end = word.data() + word.size();
    double number = 0;
    const auto [stop, error] = std::from_chars(digits, end, number);
    if (error != std::errc() || stop != end || !(number >= 0 && number <= found->most))
      throw usage_error("{} '{}': '{}' needs a number from 0 to {}", option, text, found->name, found->most);
    if (found->whole && number != std::floor(number))
      throw usage_error("{} '{}': '{}' needs a whole number from 0 to {}", option, text, found->name, found->most);
    *found->value = number;
  }
}

double drawn(double most, Random& random) {
  return most * (2 * random.uniform() - 1);
}

}  // namespace hone::media
