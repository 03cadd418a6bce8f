// Parts of examples and of prompts as a model takes them: rows of text and of media in order.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "dataset/examples.h"
#include "dataset/tokenizer.h"
#include "model/config.h"
#include "model/input.h"
#include "nn/encoders/encoder.h"

namespace hone {

struct PartRows {
  std::vector<int32_t> ids;  // document_separator where a part's rows stand
  std::vector<MediaPart> parts;

  Input input() const { return {ids, parts}; }
  int64_t size() const { return static_cast<int64_t>(ids.size()); }
  void add(const std::vector<int32_t>& text) { ids.insert(ids.end(), text.begin(), text.end()); }
  // An image or sound between the delimiters of its encoder.
  void add(size_t encoder, Features features);
  std::vector<bool> text() const;  // of each row, whether it is a token
};

// Parts of more rows than were wanted.
struct TooManyRows : Error {
  using Error::Error;
};

// By the name of the medium.
using Augmentations = std::map<std::string, std::shared_ptr<const Augmentation>>;

// May be called from several threads.
class PartsReader {
 public:
  // `cache_bytes`: of decoded files, which are kept; what does not fit is decoded again.
  PartsReader(const Config& config, int64_t cache_bytes, Augmentations augmentations = {});

  // Throws Error(input) for one of a kind that the model has no encoder for.
  void require_encoder(const ExamplePart& part) const;
  struct Settings {
    Random* random = nullptr;       // of augmentation; null: none
    int64_t most_rows = INT64_MAX;  // TooManyRows as soon as there are more: nothing behind them is decoded
  };
  // Appends the rows of `parts`. Throws Error(input), naming the part, as require_encoder(), and for what cannot be
  // read.
  void read(std::span<const ExamplePart> parts, const Tokenizer& tokenizer, PartRows& into,
            const Settings& settings) const;
  int64_t cached_bytes() const;

 private:
  size_t encoder_of(const Medium& medium) const;  // its place, or encoders_.size()
  Features features(const ExamplePart& part, size_t encoder, Random* random, int64_t most_rows) const;
  std::shared_ptr<const Decoded> decoded(const ExamplePart& part, const EncoderKind& kind, int64_t most_rows) const;

  std::vector<std::shared_ptr<const EncoderKind>> encoders_;
  int64_t cache_bytes_;
  Augmentations augmentations_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::shared_ptr<const Decoded>> cache_;
  mutable int64_t cached_ = 0;
  mutable std::map<std::string, std::shared_ptr<const class IdxOnce>> idx_;
};

}  // namespace hone
