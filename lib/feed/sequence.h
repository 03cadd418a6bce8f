// Examples as a model takes them: rows of text and of media in order, and which of them are scored.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "feed/parts_reader.h"

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
  Augmentations augmentations;
  int64_t cache_bytes = int64_t{1} << 30;  // of what was decoded; what does not fit is decoded again
  bool skip_broken = false;
};

// One example. An image or sound stands between the delimiters of its encoder; a document separator ends it. An example
// that begins with its answer begins with a separator.
struct Sequence : PartRows {
  std::vector<int32_t> targets;  // of each row; one below 0 is not scored
  float weight = 1;
  int64_t answer_row = -1, answer_tokens = 0;  // the row that predicts the answer's first token
  int64_t example = 0;

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
  bool skips_broken() const { return skip_broken_; }
  int64_t cached_bytes() const { return parts_.cached_bytes(); }

 private:
  void check() const;

  Examples examples_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  PartsReader parts_;
  int64_t context_;
  LossRows loss_;
  bool skip_broken_;
  mutable std::mutex mutex_;
  std::map<int64_t, bool> broken_;
};

}  // namespace hone
