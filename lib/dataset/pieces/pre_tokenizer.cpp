#include "dataset/pieces/pre_tokenizer.h"

#include <algorithm>
#include <array>
#include <functional>
#include <optional>

#include "dataset/pieces/characters.h"
#include "dataset/pieces/pattern.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

using Made = std::unique_ptr<const PreTokenizer>;
using Range = std::pair<size_t, size_t>;  // bytes of a match

// What becomes of the matches of a separator.
enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

Behavior behavior_of(const TokenizerPart& part) {
  constexpr std::array<const char*, 5> names = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                                "Contiguous"};
  const std::string name = part.text("behavior");
  for (size_t i = 0; i < names.size(); ++i)
    if (name == names[i]) return static_cast<Behavior>(i);
  throw input_error("{} is '{}', which is not understood", part.where("behavior"), name);
}

// All of a text in order: matches, and what is between them.
struct Stretch {
  size_t begin, end;
  bool match;
};

std::vector<Stretch> stretches_of(size_t size, const std::vector<Range>& matches, bool invert) {
  std::vector<Stretch> all;
  size_t done = 0;
  for (const auto& [begin, end] : matches) {
    if (begin > done) all.push_back({done, begin, invert});
    all.push_back({begin, end, !invert});
    done = end;
  }
  if (done < size) all.push_back({done, size, invert});
  return all;
}

std::vector<Range> behaved(const std::vector<Stretch>& all, Behavior behavior) {
  std::vector<Range> out;
  bool joined = false;  // the last range may take what follows
  for (const Stretch& s : all) {
    bool join = false;
    switch (behavior) {
      case Behavior::removed:
        if (s.match) continue;
        break;
      case Behavior::isolated:
        break;
      case Behavior::merged_with_previous:
        join = s.match && joined;
        joined = !s.match;
        break;
      case Behavior::merged_with_next:
        join = !s.match && joined;
        joined = s.match;
        break;
      case Behavior::contiguous:
        join = !out.empty() && joined == s.match;
        joined = s.match;
        break;
    }
    if (join)
      out.back().second = s.end;
    else
      out.push_back({s.begin, s.end});
  }
  return out;
}

// Cuts each piece by what `find` gives for its text.
void cut_pieces(Pieces& pieces, const std::function<std::vector<Range>(std::string_view)>& find) {
  std::vector<Pieces::Piece> cut;
  for (const Pieces::Piece& piece : pieces.list)
    for (const auto& [begin, end] : find(piece.text))
      cut.push_back({piece.text.substr(begin, end - begin), piece.starts && begin == 0});
  pieces.list = std::move(cut);
}

// The single characters of which `is` is true.
std::vector<Range> matches_of(std::string_view text, bool (*is)(uint32_t)) {
  std::vector<Range> matches;
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_front(text.substr(at)).length;
    if (is(code_point(text.substr(at, length)))) matches.push_back({at, at + length});
    at += length;
  }
  return matches;
}

std::string literal(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x80 && !std::isalnum(static_cast<unsigned char>(c))) out += '\\';
    out += c;
  }
  return out;
}

// Those of which it is known that a letter, a space and a letter are cut before the space.
constexpr std::string_view gpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::array<std::string_view, 3> known = {
    gpt2,
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

class Split final : public PreTokenizer {
 public:
  explicit Split(const TokenizerPart& part)
      : behavior_(behavior_of(part)), invert_(part.flag("invert", false)), pattern_(expression(part), part.where()) {
    known_ = behavior_ == Behavior::isolated && !invert_ &&
             std::find(known.begin(), known.end(), expression(part)) != known.end();
  }
  void split(Pieces& pieces) const override {
    cut_pieces(pieces, [this](std::string_view text) {
      std::vector<Range> matches;
      pattern_.each(text, [&](size_t begin, size_t end) { matches.push_back({begin, end}); });
      return behaved(stretches_of(text.size(), matches, invert_), behavior_);
    });
  }
  bool cuts_at_spaces() const override { return known_; }

 private:
  static std::string expression(const TokenizerPart& part) {
    const TokenizerPart pattern = part.part("pattern");
    return pattern.has("String") ? literal(pattern.text("String")) : pattern.text("Regex");
  }

  Behavior behavior_;
  bool invert_, known_ = false;
  TextPattern pattern_;
};

class ByteLevel final : public PreTokenizer {
 public:
  explicit ByteLevel(const TokenizerPart& part) : prefix_(part.flag("add_prefix_space", true)) {
    if (part.flag("use_regex", true)) pattern_.emplace(std::string(gpt2), part.where());
  }
  void split(Pieces& pieces) const override {
    if (prefix_)
      for (Pieces::Piece& piece : pieces.list)
        if (!piece.text.starts_with(' ')) piece.text = pieces.made.emplace_back(fmt::format(" {}", piece.text));
    if (!pattern_) return;
    cut_pieces(pieces, [this](std::string_view text) {
      std::vector<Range> matches;
      pattern_->each(text, [&](size_t begin, size_t end) { matches.push_back({begin, end}); });
      return behaved(stretches_of(text.size(), matches, false), Behavior::isolated);
    });
  }
  bool byte_level() const override { return true; }
  bool cuts_at_spaces() const override { return true; }

 private:
  bool prefix_;
  std::optional<TextPattern> pattern_;
};

class Digits final : public PreTokenizer {
 public:
  explicit Digits(const TokenizerPart& part)
      : behavior_(part.flag("individual_digits", false) ? Behavior::isolated : Behavior::contiguous) {}
  void split(Pieces& pieces) const override {
    cut_pieces(pieces, [this](std::string_view text) {
      return behaved(stretches_of(text.size(), matches_of(text, is_number), false), behavior_);
    });
  }
  bool cuts_at_spaces() const override { return true; }

 private:
  Behavior behavior_;
};

class Punctuation final : public PreTokenizer {
 public:
  explicit Punctuation(const TokenizerPart& part)
      : behavior_(part.has("behavior") ? behavior_of(part) : Behavior::isolated) {}
  void split(Pieces& pieces) const override {
    cut_pieces(pieces, [this](std::string_view text) {
      return behaved(stretches_of(text.size(), matches_of(text, is_punctuation), false), behavior_);
    });
  }
  bool cuts_at_spaces() const override { return true; }

 private:
  Behavior behavior_;
};

// SentencePiece's spaces (Kudo and Richardson, arXiv 1808.06226).
class Metaspace final : public PreTokenizer {
 public:
  explicit Metaspace(const TokenizerPart& part)
      : replacement_(part.text("replacement")), split_(part.flag("split", true)) {
    const std::string scheme = part.has("prepend_scheme") ? part.text("prepend_scheme")
                                                          : (part.flag("add_prefix_space", true) ? "always" : "never");
    if (scheme != "always" && scheme != "first" && scheme != "never")
      throw input_error("{} is '{}', which is not understood", part.where("prepend_scheme"), scheme);
    always_ = scheme == "always";
    first_ = scheme == "first";
  }
  void split(Pieces& pieces) const override {
    for (Pieces::Piece& piece : pieces.list) {
      std::string text;
      for (const char c : piece.text) text += c == ' ' ? replacement_ : std::string(1, c);
      if ((always_ || (first_ && piece.starts)) && !text.starts_with(replacement_)) text.insert(0, replacement_);
      piece.text = pieces.made.emplace_back(std::move(text));
    }
    if (!split_) return;
    cut_pieces(pieces, [this](std::string_view text) {
      std::vector<Range> matches;
      for (size_t at = 0; (at = text.find(replacement_, at)) != text.npos; at += replacement_.size())
        matches.push_back({at, at + replacement_.size()});
      return behaved(stretches_of(text.size(), matches, false), Behavior::merged_with_next);
    });
  }

 private:
  std::string replacement_;
  bool split_, always_ = false, first_ = false;
};

class Sequence final : public PreTokenizer {
 public:
  explicit Sequence(const TokenizerPart& part) {
    for (const TokenizerPart& inner : part.list("pretokenizers")) {
      if (byte_level()) throw input_error("{} stands behind bytes, which is not understood", inner.where());
      stages_.push_back(make_pre_tokenizer(inner));
    }
  }
  void split(Pieces& pieces) const override {
    for (const Made& stage : stages_) stage->split(pieces);
  }
  bool byte_level() const override { return !stages_.empty() && stages_.back()->byte_level(); }
  bool cuts_at_spaces() const override {
    return std::all_of(stages_.begin(), stages_.end(), [](const Made& stage) { return stage->cuts_at_spaces(); });
  }

 private:
  std::vector<Made> stages_;
};

template <class Kind>
Made make(const TokenizerPart& part) {
  return std::make_unique<Kind>(part);
}

struct Row {
  const char* type;
  Made (*make)(const TokenizerPart&);
};

// Every kind there is.
constexpr Row rows[] = {
    {"Sequence", make<Sequence>}, {"ByteLevel", make<ByteLevel>},     {"Split", make<Split>},
    {"Digits", make<Digits>},     {"Punctuation", make<Punctuation>}, {"Metaspace", make<Metaspace>}};

}  // namespace

std::unique_ptr<const PreTokenizer> make_pre_tokenizer(const TokenizerPart& part) {
  for (const Row& row : rows)
    if (part.type() == row.type) return row.make(part);
  throw part.unknown();
}

}  // namespace hone
