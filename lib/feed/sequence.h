// Examples as a model takes them: rows of text and of media in order, and which of them are scored.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "dataset/examples.h"
#include "dataset/tokenizer.h"
#include "media/medium.h"
#include "model/config.h"
#include "model/input.h"
#include "nn/encoders/encoder.h"

namespace hone {

// Which rows have a target: those whose next row is a token …
enum class LossRows {
  answers,  // … of the answer, or the end behind it
  text,     // … and that are text themselves
  all,      // … whatever they are: what follows an image directly counts, too
};
LossRows loss_rows(const std::string& name);  // Error(usage)

struct FeedSettings {
  LossRows loss = LossRows::all;
  std::map<std::string, std::shared_ptr<const Augmentation>> augmentations;  // by the name of the medium
  int64_t cache_bytes = int64_t{1} << 30;  // of what was decoded; what does not fit is decoded again
  bool skip_broken = false;
};

// One example. An image or sound stands between the delimiters of its encoder; a document separator ends it. An example
// that begins with its answer begins with a separator.
struct Sequence {
  std::vector<int32_t> ids, targets;  // a target below 0 is not scored
  std::vector<MediaPart> parts;
  float weight = 1;
  int64_t answer_row = -1, answer_tokens = 0;  // the row that predicts the answer's first token
  int64_t example = 0;

  Input input() const { return {ids, parts}; }
  int64_t size() const { return static_cast<int64_t>(ids.size()); }
  const MediaPart* first_of(size_t encoder) const;  // null: none of this encoder's
};

// May be called from several threads.
class SequenceReader {
 public:
  // Throws Error(input), with file and line, for a part of a kind that the model has no encoder for, and for an example
  // of which nothing would be scored.
  SequenceReader(Examples examples, std::shared_ptr<const Tokenizer> tokenizer, const Config& config, int64_t context,
                 const FeedSettings& settings);

  int64_t size() const { return static_cast<int64_t>(examples_.all.size()); }
  const Examples& examples() const { return examples_; }
  // Decodes what is not in the cache; augments by `seed` where that is not 0. None where a file is broken and those are
  // skipped; else throws Error(input) with file and line for what cannot be read, and for more rows than the context.
  std::optional<Sequence> read(int64_t example, uint64_t seed = 0);
  int64_t broken() const;  // examples that were skipped
  bool skips_broken() const { return settings_.skip_broken; }
  int64_t cached_bytes() const;

 private:
  class Builder;
  void check() const;
  Features features(const ExamplePart& part, size_t encoder, Random* random);
  std::shared_ptr<const Decoded> decoded(const ExamplePart& part, const EncoderKind& kind);
  size_t encoder_of(const Medium& medium) const;  // its place, or encoders_.size()

  Examples examples_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<std::shared_ptr<const EncoderKind>> encoders_;
  int64_t context_;
  FeedSettings settings_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const Decoded>> cache_;
  int64_t cached_ = 0;
  std::map<std::string, std::shared_ptr<const class IdxOnce>> idx_;
  std::map<int64_t, bool> broken_;
};

}  // namespace hone
