#include "dataset/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"
#include "base/stop.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

// White space is spelled out as Unicode's White_Space, which is what \s means to GPT-2's own encoder. PCRE2's \s has
// U+180E too, which ceased to be white space with Unicode 6.3. Of letters and numbers, what differs is what the
// versions of Unicode know.
constexpr std::string_view pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\t-\r\x{85}\p{Z}\p{L}\p{N}]+)"
                                     R"(|[\t-\r\x{85}\p{Z}]+(?![^\t-\r\x{85}\p{Z}])|[\t-\r\x{85}\p{Z}]+)";

// Compiled once for the process and never freed; matching only reads it.
const pcre2_code* compiled_pattern() {
  static const pcre2_code* const code = [] {
    int error = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code* made = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &offset, nullptr);
    if (!made) throw internal_error("the pre-tokenization pattern does not compile: PCRE2 error {}", error);
    pcre2_jit_compile(made,
                      PCRE2_JIT_COMPLETE);  // without it (an unusual build of PCRE2) matching is slower, not different
    return made;
  }();
  return code;
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

}  // namespace

struct Pretokenizer::Match {
  pcre2_match_data* data;
  Match() : data(pcre2_match_data_create(1, nullptr)) {
    if (!data) throw std::bad_alloc();
  }
  ~Match() { pcre2_match_data_free(data); }
};

Pretokenizer::Pretokenizer() : match_(std::make_unique<Match>()) {}
Pretokenizer::~Pretokenizer() = default;

size_t Pretokenizer::cut(std::string_view text, size_t from) {
  for (size_t at = from ? from : 1; at + 1 < text.size(); ++at)
    if (text[at] == ' ' && is_letter(text[at - 1]) && is_letter(text[at + 1])) return at;
  return text.size();
}

void Pretokenizer::split(std::string_view text, void (*f)(void*, std::string_view), void* context) {
  while (!text.empty()) {
    const size_t valid = valid_utf8_prefix(text);
    split_valid(text.substr(0, valid), f, context);
    text.remove_prefix(valid);
    size_t invalid = 0;
    while (invalid < text.size()) {
      const Utf8Front front = utf8_front(text.substr(invalid));
      if (front.kind == Utf8Front::valid) break;
      invalid += front.length;
    }
    if (invalid) f(context, text.substr(0, invalid));
    text.remove_prefix(invalid);
  }
}

void Pretokenizer::split_valid(std::string_view text, void (*f)(void*, std::string_view), void* context) {
  const pcre2_code* code = compiled_pattern();
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match_->data);
  for (size_t at = 0; at < text.size(); at = range[1]) {
    // PCRE2_NO_UTF_CHECK: the caller has checked, and a check at each word would cost the rest of the text each time.
    const int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at, PCRE2_NO_UTF_CHECK,
                                  match_->data, nullptr);
    // Every character is matched by some alternative, so a failure is a limit of PCRE2, not a property of the text.
    if (found < 0 || range[1] <= at)
      throw internal_error("cutting text into words failed at byte {} (PCRE2 error {})", at, found);
    check_stop();
    f(context, text.substr(at, range[1] - at));
  }
}

}  // namespace hone
