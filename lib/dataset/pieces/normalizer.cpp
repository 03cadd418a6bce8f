#include "dataset/pieces/normalizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <functional>
#include <optional>

#include "dataset/pieces/characters.h"
#include "dataset/pieces/pattern.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

using Made = std::unique_ptr<const Normalizer>;

class Sequence final : public Normalizer {
 public:
  explicit Sequence(const TokenizerPart& part) {
    for (const TokenizerPart& inner : part.list("normalizers")) stages_.push_back(make_normalizer(inner));
  }
  void apply(std::string& text) const override {
    for (const Made& stage : stages_) stage->apply(text);
  }

 private:
  std::vector<Made> stages_;
};

// Unicode's normal forms (Unicode Standard Annex 15).
class NormalForm final : public Normalizer {
 public:
  explicit NormalForm(int options) : options_(options) {}
  void apply(std::string& text) const override {
    if (is_ascii(text)) return;
    utf8proc_uint8_t* made = nullptr;
    const utf8proc_ssize_t size =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                     &made, static_cast<utf8proc_option_t>(options_));
    const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(made, std::free);
    if (size < 0) throw input_error("a text cannot be normalized: {}", utf8proc_errmsg(size));
    text.assign(reinterpret_cast<const char*>(made), static_cast<size_t>(size));
  }

 private:
  int options_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  void apply(std::string& text) const override {
    if (!text.empty()) text.insert(0, prefix_);
  }

 private:
  std::string prefix_;
};

class Lowercase final : public Normalizer {
 public:
  void apply(std::string& text) const override {
    std::string out;
    for (const uint32_t c : characters_of(text)) {
      if (c == 0x130) {  // the one letter that becomes two
        out += "i\xcc\x87";
        continue;
      }
      append_utf8(static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
    }
    text = std::move(out);
  }
};

class StripAccents final : public Normalizer {
 public:
  void apply(std::string& text) const override {
    std::string out;
    for (const uint32_t c : characters_of(text))
      if (utf8proc_category(static_cast<utf8proc_int32_t>(c)) != UTF8PROC_CATEGORY_MN) append_utf8(c, out);
    text = std::move(out);
  }
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void apply(std::string& text) const override {
    const std::vector<uint32_t> all = characters_of(text);
    size_t begin = 0, end = all.size();
    while (left_ && begin < end && is_white_space(all[begin])) ++begin;
    while (right_ && end > begin && is_white_space(all[end - 1])) --end;
    text.clear();
    for (size_t i = begin; i < end; ++i) append_utf8(all[i], text);
  }

 private:
  bool left_, right_;
};

class Replace final : public Normalizer {
 public:
  explicit Replace(const TokenizerPart& part) : content_(part.text("content")) {
    const TokenizerPart pattern = part.part("pattern");
    if (pattern.has("String"))
      literal_ = pattern.text("String");
    else
      pattern_.emplace(pattern.text("Regex"), part.where());
    if (!pattern_ && literal_.empty()) throw input_error("{} replaces nothing", part.where());
  }

  void apply(std::string& text) const override {
    std::string out;
    size_t done = 0;
    const auto take = [&](size_t begin, size_t end) {
      out.append(text, done, begin - done);
      out += content_;
      done = end;
    };
    if (pattern_)
      pattern_->each(text, take);
    else
      for (size_t at = 0; (at = text.find(literal_, at)) != text.npos; at += literal_.size())
        take(at, at + literal_.size());
    out.append(text, done);
    text = std::move(out);
  }

 private:
  std::string literal_, content_;
  std::optional<TextPattern> pattern_;
};

struct Row {
  const char* type;
  std::function<Made(const TokenizerPart&)> make;
};

template <int options>
Made normal_form(const TokenizerPart&) {
  return std::make_unique<NormalForm>(options | UTF8PROC_STABLE);
}

// Every kind there is.
const std::vector<Row>& rows() {
  static const std::vector<Row> table = {
      {"Sequence", [](const TokenizerPart& p) -> Made { return std::make_unique<Sequence>(p); }},
      {"NFC", normal_form<UTF8PROC_COMPOSE>},
      {"NFD", normal_form<UTF8PROC_DECOMPOSE>},
      {"NFKC", normal_form<UTF8PROC_COMPOSE | UTF8PROC_COMPAT>},
      {"NFKD", normal_form<UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT>},
      {"Prepend", [](const TokenizerPart& p) -> Made { return std::make_unique<Prepend>(p.text("prepend")); }},
      {"Replace", [](const TokenizerPart& p) -> Made { return std::make_unique<Replace>(p); }},
      {"Precompiled", make_precompiled},
      {"Lowercase", [](const TokenizerPart&) -> Made { return std::make_unique<Lowercase>(); }},
      {"StripAccents", [](const TokenizerPart&) -> Made { return std::make_unique<StripAccents>(); }},
      {"Strip", [](const TokenizerPart& p) -> Made {
         return std::make_unique<Strip>(p.flag("strip_left", true), p.flag("strip_right", true));
       }}};
  return table;
}

}  // namespace

std::unique_ptr<const Normalizer> make_normalizer(const TokenizerPart& part) {
  for (const Row& row : rows())
    if (part.type() == row.type) return row.make(part);
  throw part.unknown();
}

}  // namespace hone
