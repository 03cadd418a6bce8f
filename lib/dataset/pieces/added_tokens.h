// Tokens that are found in a text before all else: added to a vocabulary by hand, or special.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dataset/pieces/normalizer.h"

namespace hone {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool single_word = false, lstrip = false, rstrip = false, normalized = false, special = false;
};

std::vector<AddedToken> read_added_tokens(const nlohmann::json& list);  // Error(input)

// Finds some of them, the leftmost first, of those that begin alike the longest.
class TokenFinder {
 public:
  TokenFinder() = default;
  explicit TokenFinder(std::vector<AddedToken> tokens);

  struct Segment {
    size_t begin, end;
    int32_t id;  // -1: text
  };
  std::vector<Segment> find(std::string_view text) const;  // all of a text, in order

 private:
  std::vector<AddedToken> tokens_;
  std::array<std::vector<size_t>, 256> by_first_;  // of tokens_, the longest first
};

}  // namespace hone
