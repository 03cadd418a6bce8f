#include "feed/parts_reader.h"

#include <algorithm>

#include "media/idx.h"
#include "media/sound.h"

namespace hone {

// An IDX file, read by the first who asks.
class IdxOnce {
 public:
  explicit IdxOnce(const std::string& path) : file_(path) {}
  const media::IdxFile& file() const { return file_; }

 private:
  media::IdxFile file_;
};

void PartRows::add(size_t encoder, Features features) {
  MediaPart part{encoder, size(), std::move(features)};
  ids.insert(ids.end(), static_cast<size_t>(part.rows()), document_separator);
  parts.push_back(std::move(part));
}

std::vector<bool> PartRows::text() const {
  std::vector<bool> is_text(ids.size(), true);
  for (const MediaPart& part : parts) std::fill_n(is_text.begin() + part.row, part.rows(), false);
  return is_text;
}

PartsReader::PartsReader(const Config& config, int64_t cache_bytes, Augmentations augmentations)
    : cache_bytes_(cache_bytes), augmentations_(std::move(augmentations)) {
  for (const std::string& name : config.encoders) encoders_.push_back(encoder_kind(name));
}

size_t PartsReader::encoder_of(const Medium& medium) const {
  size_t e = 0;
  while (e < encoders_.size() && &encoders_[e]->medium() != &medium) ++e;
  return e;
}

void PartsReader::require_encoder(const ExamplePart& part) const {
  if (part.medium && encoder_of(*part.medium) == encoders_.size())
    throw input_error("{} is of a kind, {}, that the model has no encoder for", part.name(), part.kind());
}

std::shared_ptr<const Decoded> PartsReader::decoded(const ExamplePart& part, const EncoderKind& kind,
                                                    int64_t most_rows) const {
  if (part.bytes) return std::make_shared<const Decoded>(kind.decode(*part.bytes, part.name(), most_rows));
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
  if (cached_ + bytes <= cache_bytes_ && cache_.emplace(part.value, made).second) cached_ += bytes;
  return made;
}

Features PartsReader::features(const ExamplePart& part, size_t encoder, Random* random, int64_t most_rows) const {
  const EncoderKind& kind = *encoders_[encoder];
  const std::shared_ptr<const Decoded> decoded = this->decoded(part, kind, most_rows);
  const auto by = augmentations_.find(kind.medium().name);
  if (!random || by == augmentations_.end() || !by->second) return kind.features(*decoded, part.name());
  Features features = kind.features(by->second->changed(*decoded, *random), part.name());
  by->second->mask(features, *random);
  return features;
}

void PartsReader::read(std::span<const ExamplePart> parts, const Tokenizer& tokenizer, PartRows& into,
                       const Settings& settings) const {
  for (const ExamplePart& part : parts) require_encoder(part);
  for (const ExamplePart& part : parts) {
    if (!part.medium) {
      into.add(tokenizer.encode(part.value));
    } else {
      const size_t encoder = encoder_of(*part.medium);
      try {
        into.add(encoder, features(part, encoder, settings.random, settings.most_rows - into.size()));
      } catch (const media::SoundTooLong& error) {
        if (settings.most_rows == INT64_MAX) throw;
        throw TooManyRows(ErrorKind::input,
                          fmt::format("{}; there may be {} rows of text and media", error.what(), settings.most_rows));
      }
    }
    if (into.size() > settings.most_rows)
      throw TooManyRows(ErrorKind::input, fmt::format("{} rows of text and media, more than the {} that there may be",
                                                      into.size(), settings.most_rows));
  }
}

int64_t PartsReader::cached_bytes() const {
  const std::lock_guard lock(mutex_);
  return cached_;
}

}  // namespace hone
