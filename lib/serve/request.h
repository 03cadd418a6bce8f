// A text that is asked for, and what came of it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "serve/generate.h"

namespace hone {

// A token and its log-probability in nats, by the model's own distribution: before temperature, top_k, top_p, penalty.
struct ScoredToken {
  int32_t token = 0;
  double logprob = 0;
  std::vector<std::pair<int32_t, double>> top;  // the most probable ones, of equals the lower id first
};

struct Completion {
  std::vector<int32_t> tokens;  // as Generated::tokens
  std::string text;
  Finish finish = Finish::length;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;               // of the prompt, found in the cache at first
  std::vector<ScoredToken> scores;         // of `tokens` and of the separator behind them, where they are asked for
  std::vector<ScoredToken> prompt_scores;  // of the prompt's tokens but the first
  double queue_seconds = 0, first_token_seconds = 0, seconds = 0;  // since the request came
};

struct PromptMedia;  // serve/prompt.h

struct Request {
  std::vector<int32_t> prompt;                    // empty: the text begins a document
  std::shared_ptr<const PromptMedia> media = {};  // that stand in the prompt, whose rows it counts; null: all is text
  int64_t tokens = 200;                           // at most; 0: none, where the prompt is only scored
  SamplingSettings sampling;
  std::vector<std::string> stops;
  bool ignore_end = false;
  Random random{1, "sampling"};
  int64_t logprobs = -1;      // scores, with this many of the most probable tokens beside each; -1: none
  bool score_prompt = false;  // and of the prompt, a text; such a request finds nothing in the cache
  // As generate()'s; false ends the text. `scores`: those of the tokens since the last call.
  std::function<bool(std::string_view text, const std::vector<ScoredToken>& scores)> on_text;
  std::function<void()> on_token;                  // at each token that is chosen, before it becomes text
  std::function<bool()> wanted;                    // asked before every step; false ends it as Engine::cancel() does
  std::function<void(const Completion&)> on_done;  // at the end, however it came
};

}  // namespace hone
