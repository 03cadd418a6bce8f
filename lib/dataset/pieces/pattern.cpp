#include "dataset/pieces/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"
#include "base/stop.h"

namespace hone {

struct TextPattern::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

std::string spell_white_space(const std::string& expression, const std::string& part) {
  constexpr std::string_view members = R"(\t-\r\x{85}\p{Z})";
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c == '\\' && i + 1 < expression.size()) {
      const char next = expression[++i];
      if (next == 's') {
        out += in_class ? std::string(members) : fmt::format("[{}]", members);
      } else if (next == 'S') {
        if (in_class) throw input_error("{}: \\S within brackets is not understood", part);
        out += fmt::format("[^{}]", members);
      } else {
        out += c;
        out += next;
      }
      continue;
    }
    if (c == '[') {
      if (in_class) throw input_error("{}: brackets within brackets are not understood", part);
      in_class = true;
    } else if (c == ']') {
      in_class = false;
    }
    out += c;
  }
  return out;
}

TextPattern::TextPattern(const std::string& expression, const std::string& part) {
  const std::string text = spell_white_space(expression, part);
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_shared<Code>();
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), PCRE2_UTF | PCRE2_UCP, &error,
                             &offset, nullptr);
  if (!code->code) throw input_error("{}: the expression is not understood (at {} of '{}')", part, offset, text);
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  code_ = std::move(code);
}

void TextPattern::each(std::string_view text, const std::function<void(size_t begin, size_t end)>& f) const {
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match(pcre2_match_data_create(1, nullptr),
                                                                             pcre2_match_data_free);
  if (!match) throw std::bad_alloc();
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
  for (size_t at = 0; at <= text.size();) {
    const int found = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                  PCRE2_NO_UTF_CHECK, match.get(), nullptr);
    if (found == PCRE2_ERROR_NOMATCH) return;
    if (found < 0) throw input_error("a tokenizer's expression fails on a text (PCRE2 error {})", found);
    check_stop();
    if (range[1] > range[0]) {
      f(range[0], range[1]);
      at = range[1];
    } else {  // of nothing: on to the next character
      at = range[1] + 1;
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) ++at;
    }
  }
}

}  // namespace hone
