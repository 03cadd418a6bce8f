// Cuts text into the pieces that byte-pair merges stay within: words, numbers, punctuation, white space.
#pragma once

#include <memory>
#include <string_view>
#include <type_traits>

namespace hone {

// GPT-2's pattern (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", its published encoder).
// Bytes that are not valid UTF-8 are kept: each run of them is a piece of its own. One object serves one thread.
class Pretokenizer {
 public:
  Pretokenizer();
  ~Pretokenizer();
  Pretokenizer(const Pretokenizer&) = delete;
  Pretokenizer& operator=(const Pretokenizer&) = delete;

  // Calls f(piece) for consecutive pieces that make up `text`; no piece is empty.
  template <class F>
  void each(std::string_view text, F&& f) {
    split(
        text, [](void* raw, std::string_view piece) { (*static_cast<std::remove_reference_t<F>*>(raw))(piece); }, &f);
  }

  // A position at or after `from` where pieces end wherever the rest of the text is cut: between a letter and a space
  // with a letter after it. text.size() if there is none.
  static size_t cut(std::string_view text, size_t from);

 private:
  void split(std::string_view text, void (*f)(void*, std::string_view), void* context);
  void split_valid(std::string_view text, void (*f)(void*, std::string_view), void* context);
  struct Match;
  std::unique_ptr<Match> match_;
};

}  // namespace hone
