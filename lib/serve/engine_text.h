// What an engine knows of a text. Included only by serve/engine*.cpp.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "model/input.h"
#include "serve/engine.h"
#include "serve/prompt.h"
#include "serve/written_text.h"

namespace hone {

// A request and how far it is. Of `ids`, the state has seen the first `seen`; those after the prompt were chosen.
struct Engine::Text {
  Text(int64_t number, Request asked, const Tokenizer& tokenizer, double now, int64_t most_positions)
      : id(number),
        request(std::move(asked)),
        ids(request.prompt),
        separator(tokenizer.separator()),
        sampler(request.sampling, request.random),
        output(
            tokenizer, request.stops,
            [this](std::string_view text) {
              if (!request.on_text) return true;
              const std::vector<ScoredToken> scores(result.scores.begin() + told, result.scores.end());
              told = static_cast<int64_t>(result.scores.size());
              return request.on_text(text, scores);
            },
            result.text) {
    if (ids.empty()) ids.push_back(separator);
    prompt = result.prompt_tokens = static_cast<int64_t>(ids.size());
    positions = most_positions;
    came = now;
  }

  int64_t size() const { return static_cast<int64_t>(ids.size()); }
  bool in_prompt() const { return seen < prompt; }
  std::span<const MediaPart> parts() const {
    return request.media ? std::span<const MediaPart>(request.media->parts) : std::span<const MediaPart>();
  }
  // The prompt; and by what it is compared with others.
  Input input() const { return {std::span(ids).first(static_cast<size_t>(prompt)), parts()}; }
  Input keys() const { return request.media ? Input(request.media->keys, parts()) : input(); }
  int32_t banned() const { return request.ignore_end ? separator : -1; }

  // In the order of service.
  bool before(const Text& other) const { return rank != other.rank ? rank < other.rank : id < other.id; }

  int64_t id, rank = 0;
  Request request;
  Completion result;
  std::vector<int32_t> ids;
  int32_t separator;                  // of the tokenizer: ends a text
  int64_t prompt = 0, positions = 0;  // of the prompt, and that it may fill
  int64_t seen = 0, told = 0;
  int64_t slot = -1;
  std::vector<int32_t> pages;
  int32_t node = Pages::root;  // of the last page that is in the tree
  int64_t in_tree = 0;         // pages
  std::vector<int64_t> stops;  // tokens of the prompt after which is kept what stands beside pages
  Sampler sampler;
  WrittenText output;
  // The next token and its scores, while it is chosen; none: the logits are not finite.
  std::optional<int32_t> next;
  ScoredToken next_score;
  double came = 0;  // by the executor's clock
  bool began = false, cancelled = false, ended = false;
};

struct Engine::Part {
  Text* text;
  int64_t count;
  Phase phase;
  bool chooses = false;  // a token, once it is seen
  Tensor last = {};      // the hidden state after its last token then
};

}  // namespace hone
