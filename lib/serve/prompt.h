// Prompts of text, images and sounds: what a request's parts are to a model.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "feed/parts_reader.h"
#include "serve/request.h"

namespace hone {

// What of a prompt is no text. Requests for several texts share it.
struct PromptMedia {
  std::vector<MediaPart> parts;
  // Of each row of the prompt, for comparing prompts: rows are read alike where all keys up to them are equal (and no
  // part goes on behind them). A token's is its id, as in prompts of text alone, unless other bits are read of it;
  // those of a part are negative and made of a SHA-256 of its features, so that nobody finds another one with them.
  std::vector<int32_t> keys;

  std::string digest() const;  // of all keys: the same for prompts that are the same to the model
};

// `by_kind`: of a model that has weights by kind (has_weights_by_kind()), where tokens beside media are read by other
// products than in a prompt of text alone. Ids of tokens are below 2^30.
std::shared_ptr<const PromptMedia> prompt_media(std::span<const int32_t> ids, std::vector<MediaPart> parts,
                                                bool by_kind);

// May be called from several threads.
class PromptReader {
 public:
  // `most_rows`: of a prompt. `cache_bytes` as PartsReader has it.
  PromptReader(const Config& config, const Tokenizer& tokenizer, int64_t most_rows, int64_t cache_bytes = 0);

  // Makes the prompt and media of a request. Throws as PartsReader::read(): TooManyRows, other Error(input).
  void read(std::span<const ExamplePart> parts, Request& into) const;

 private:
  const Tokenizer& tokenizer_;
  PartsReader parts_;
  int64_t most_rows_;
  bool by_kind_;
};

}  // namespace hone
