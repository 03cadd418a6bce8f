// The table of a normalizer as SentencePiece compiles it ("precompiled_charsmap"): what texts of some characters become.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hone {

// A trie in a double array (J. Aoe, An efficient digital search algorithm, 1989; in Darts-clone's 32-bit units), and
// behind it the texts, each ended by a zero.
class CharacterMap {
 public:
  // Throws Error(input) naming `part` for bytes that are no such table.
  CharacterMap(std::string_view bytes, const std::string& part);

  struct Match {
    size_t length;          // bytes of the text that are replaced,
    std::string_view text;  // by these, valid UTF-8
  };
  // Of the entries that `text` begins with.
  std::optional<Match> longest(std::string_view text) const { return find(text, true); }
  std::optional<Match> shortest(std::string_view text) const { return find(text, false); }

 private:
  std::optional<Match> find(std::string_view text, bool longest) const;

  std::vector<uint32_t> units_;
  std::string texts_;
};

}  // namespace hone
