#include "feed/sequence.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "media/idx.h"

namespace hone {

// An IDX file, read by the first who asks.
class IdxOnce {
 public:
  explicit IdxOnce(const std::string& path) : file_(path) {}
  const media::IdxFile& file() const { return file_; }

 private:
  media::IdxFile file_;
};

const MediaPart* Sequence::first_of(size_t encoder) const {
  const auto found = std::ranges::find(parts, encoder, &MediaPart::encoder);
  return found == parts.end() ? nullptr : &*found;
}

LossRows loss_rows(const std::string& name) {
  if (name == "answers") return LossRows::answers;
  if (name == "text") return LossRows::text;
  if (name == "all") return LossRows::all;
  throw usage_error("a loss on '{}': there are answers, text and all", name);
}

SequenceReader::SequenceReader(Examples examples, std::shared_ptr<const Tokenizer> tokenizer, const Config& config,
                               int64_t context, const FeedSettings& settings)
    : examples_(std::move(examples)), tokenizer_(std::move(tokenizer)), context_(context), settings_(settings) {
  for (const std::string& name : config.encoders) encoders_.push_back(encoder_kind(name));
  check();
}

size_t SequenceReader::encoder_of(const Medium& medium) const {
  size_t e = 0;
  while (e < encoders_.size() && &encoders_[e]->medium() != &medium) ++e;
  return e;
}

void SequenceReader::check() const {
  for (const Example& example : examples_.all) {
    for (const ExamplePart& part : example.parts)
      if (part.medium && encoder_of(*part.medium) == encoders_.size())
        throw input_error("{}: {} is of a kind, {}, that the model has no encoder for", examples_.where(example),
                          part.name(), part.kind());
    if (settings_.loss == LossRows::answers && !example.has_answer)
      throw input_error("{}: no answer, which alone would be scored", examples_.where(example));
  }
}

std::shared_ptr<const Decoded> SequenceReader::decoded(const ExamplePart& part, const EncoderKind& kind) {
  if (part.index >= 0) {
    std::shared_ptr<const IdxOnce> file;
    {
      const std::lock_guard lock(mutex_);
      auto& known = idx_[part.value];
      if (!known) known = std::make_shared<IdxOnce>(part.value);
      file = known;
    }
    return std::make_shared<const Decoded>(kind.adopted(file->file().image(part.index), part.name()));
  }
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = cache_.find(part.value); found != cache_.end()) return found->second;
  }
  auto made = std::make_shared<const Decoded>(kind.read(part.value));
  const int64_t bytes = made->bytes() + static_cast<int64_t>(part.value.size()) + 128;
  const std::lock_guard lock(mutex_);
  if (cached_ + bytes <= settings_.cache_bytes && cache_.emplace(part.value, made).second) cached_ += bytes;
  return made;
}

Features SequenceReader::features(const ExamplePart& part, size_t encoder, Random* random) {
  const EncoderKind& kind = *encoders_[encoder];
  const std::shared_ptr<const Decoded> decoded = this->decoded(part, kind);
  const auto by = settings_.augmentations.find(kind.medium().name);
  if (!random || by == settings_.augmentations.end() || !by->second) return kind.features(*decoded, part.name());
  Features features = kind.features(by->second->changed(*decoded, *random), part.name());
  by->second->mask(features, *random);
  return features;
}

// Rows in order, and where text stands.
class SequenceReader::Builder {
 public:
  explicit Builder(Sequence& into) : s_(into) {}

  void text(const std::vector<int32_t>& ids) {
    for (const int32_t id : ids) {
      s_.ids.push_back(id);
      is_text_.push_back(true);
    }
  }
  void media(size_t encoder, Features features) {
    MediaPart part{encoder, s_.size(), std::move(features)};
    s_.ids.insert(s_.ids.end(), static_cast<size_t>(part.rows()), document_separator);
    is_text_.insert(is_text_.end(), static_cast<size_t>(part.rows()), false);
    s_.parts.push_back(std::move(part));
  }
  void finish(LossRows loss, int32_t separator) {
    for (int64_t row = 0; row < s_.size(); ++row) {
      const auto at = static_cast<size_t>(row);
      const bool ends = row + 1 == s_.size();
      const bool token = ends || is_text_[at + 1];
      const bool of_answer = s_.answer_row >= 0 && row >= s_.answer_row;
      const bool scored = token && (loss == LossRows::all || of_answer || (loss == LossRows::text && is_text_[at]));
      s_.targets.push_back(!scored ? -1 : ends ? separator : s_.ids[at + 1]);
    }
  }

 private:
  Sequence& s_;
  std::vector<bool> is_text_;
};

std::optional<Sequence> SequenceReader::read(int64_t index, uint64_t seed) {
  const Example& example = examples_.all[static_cast<size_t>(index)];
  Random random(seed, "augment");
  Sequence s;
  s.example = index;
  s.weight = example.weight;
  Builder builder(s);
  try {
    for (const ExamplePart& part : example.parts) {
      if (!part.medium)
        builder.text(tokenizer_->encode(part.value));
      else
        builder.media(encoder_of(*part.medium), features(part, encoder_of(*part.medium), seed ? &random : nullptr));
    }
    if (s.ids.empty()) builder.text({tokenizer_->separator()});
    if (example.has_answer) {
      const std::vector<int32_t> answer = tokenizer_->encode(example.answer);
      s.answer_row = s.size() - 1;
      s.answer_tokens = static_cast<int64_t>(answer.size());
      builder.text(answer);
    }
    if (s.size() > context_)
      throw input_error("{} rows of text and media, more than the context of {}", s.size(), context_);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) throw;
    const std::string what = fmt::format("{}: {}", examples_.where(example), error.what());
    if (!settings_.skip_broken) throw input_error("{}", what);
    const std::lock_guard lock(mutex_);
    if (broken_.emplace(index, true).second) log_debug("skipped: {}", what);
    return std::nullopt;
  }
  builder.finish(settings_.loss, tokenizer_->separator());
  return s;
}

int64_t SequenceReader::broken() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(broken_.size());
}

int64_t SequenceReader::cached_bytes() const {
  const std::lock_guard lock(mutex_);
  return cached_;
}

}  // namespace hone
