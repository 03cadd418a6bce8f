// What a text's tokens become on their way to its reader, and how many of them there may be.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "dataset/tokenizer.h"
#include "dataset/utf8.h"
#include "kernels/attention/types.h"
#include "model/config.h"
#include "serve/stop_text.h"

namespace hone {

// Tokens on their way to the reader.
class WrittenText {
 public:
  WrittenText(const Tokenizer& tokenizer, const std::vector<std::string>& stops,
              std::function<bool(std::string_view)> on_text, std::string& text)
      : tokenizer_(tokenizer), on_text_(std::move(on_text)), text_(text), stop_(stops) {}

  void add(int32_t token) { give(stop_.push(characters_.push(tokenizer_.text_of(token)))); }
  void finish() {
    give(stop_.push(characters_.finish()));
    give(stop_.finish());
  }
  bool stopped() const { return stop_.found(); }
  bool wanted() const { return wanted_; }

 private:
  void give(const std::string& text) {
    if (text.empty() || !wanted_) return;
    text_ += text;
    if (on_text_) wanted_ = on_text_(text);
  }

  const Tokenizer& tokenizer_;
  std::function<bool(std::string_view)> on_text_;
  std::string& text_;
  Utf8Stream characters_;
  StopText stop_;
  bool wanted_ = true;
};

// How many positions a text may fill: `wanted`, or as many as are learned. Throws Error(input) for a longer prompt.
inline int64_t positions_of(const Config& config, int64_t wanted, int64_t prompt) {
  const int64_t most = max_positions(config);
  if (prompt > most)
    throw input_error("the prompt has {} tokens, the model's learned positions end at {}; shorten the prompt", prompt,
                      most);
  return std::min(wanted, most);
}

// Prompts are cut where blocks of keys are, so that no bit depends on how much goes through the model at once.
inline int64_t whole_blocks(int64_t chunk) {
  constexpr int64_t block = kernels::attention_block;
  return std::max(block, chunk / block * block);
}

}  // namespace hone
