// SentencePiece's compiled normalizer, as Hugging Face's `tokenizers` applies it: not as SentencePiece itself does
// (dataset/sentence_piece.cpp), which takes the longest entry at each place.
#include <utf8proc.h>

#include "dataset/base64.h"
#include "dataset/pieces/character_map.h"
#include "dataset/pieces/normalizer.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

class Precompiled final : public Normalizer {
 public:
  explicit Precompiled(CharacterMap map) : map_(std::move(map)) {}

  // What a reader takes for one character (a grapheme) of few bytes is looked up whole, else one code point at a time;
  // of the entries that it begins with the shortest counts, and replaces all of it.
  void apply(std::string& text) const override {
    std::string out;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = grapheme_end(text, begin);
      const std::string_view whole(text.data() + begin, end - begin);
      begin = end;
      if (whole.size() < 6)
        if (const auto match = map_.shortest(whole)) {
          out += match->text;
          continue;
        }
      for (size_t at = 0; at < whole.size();) {
        const std::string_view one = whole.substr(at, utf8_front(whole.substr(at)).length);
        const auto match = map_.shortest(one);
        out += match ? match->text : one;
        at += one.size();
      }
    }
    text = std::move(out);
  }

 private:
  // Unicode Standard Annex 29.
  static size_t grapheme_end(std::string_view text, size_t begin) {
    utf8proc_int32_t state = 0;
    uint32_t before = 0;
    for (size_t at = begin; at < text.size();) {
      const std::string_view one = text.substr(at, utf8_front(text.substr(at)).length);
      const uint32_t code = code_point(one);
      if (at > begin && utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(before),
                                                         static_cast<utf8proc_int32_t>(code), &state))
        return at;
      before = code;
      at += one.size();
    }
    return text.size();
  }

  CharacterMap map_;
};

}  // namespace

std::unique_ptr<const Normalizer> make_precompiled(const TokenizerPart& part) {
  const std::string name = part.where("precompiled_charsmap");
  const auto bytes = from_base64(part.text("precompiled_charsmap"));
  if (!bytes) throw input_error("{} is not base64", name);
  return std::make_unique<Precompiled>(CharacterMap(*bytes, name));
}

}  // namespace hone
