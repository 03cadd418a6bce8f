// A regular expression over UTF-8, as tokenizers of others write them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace hone {

// \s and \S are Unicode's White_Space, as everywhere but in PCRE2. Immutable; matching may run in several threads.
class TextPattern {
 public:
  // Throws Error(input) where it does not compile; `part` says what it belongs to.
  TextPattern(const std::string& expression, const std::string& part);
  // Matches of a text that is valid UTF-8, from its start to its end; f(begin, end) in bytes, never of nothing.
  void each(std::string_view text, const std::function<void(size_t begin, size_t end)>& f) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

// The expression with White_Space spelled out.
std::string spell_white_space(const std::string& expression, const std::string& part);

}  // namespace hone
