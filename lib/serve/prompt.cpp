#include "serve/prompt.h"

#include <charconv>
#include <cstring>

#include "base/atomic_file.h"

namespace hone {
namespace {

std::string_view bytes_of(std::span<const int32_t> numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size_bytes()};
}

// The digest as numbers of 30 bits.
std::vector<int32_t> words_of(const MediaPart& part) {
  const Features& f = part.features;
  const int64_t shape[] = {static_cast<int64_t>(part.encoder), f.width, f.columns, f.rows()};
  std::string all(sizeof shape + f.values.size() * sizeof(float), '\0');
  std::memcpy(all.data(), shape, sizeof shape);
  std::memcpy(all.data() + sizeof shape, f.values.data(), f.values.size() * sizeof(float));
  const std::string digest = sha256_of(all);
  constexpr size_t digits = 8;  // of a number of 32 bits
  std::vector<int32_t> words;
  for (size_t i = 0; i + digits <= digest.size(); i += digits) {
    uint32_t word = 0;
    std::from_chars(digest.data() + i, digest.data() + i + digits, word, 16);
    words.push_back(static_cast<int32_t>(word & ((1u << 30) - 1)));
  }
  return words;
}

}  // namespace

std::string PromptMedia::digest() const {
  return sha256_of(bytes_of(keys));
}

std::shared_ptr<const PromptMedia> prompt_media(std::span<const int32_t> ids, std::vector<MediaPart> parts,
                                                bool by_kind) {
  auto media = std::make_shared<PromptMedia>();
  media->keys.assign(ids.begin(), ids.end());
  if (by_kind)
    for (int32_t& key : media->keys) key = INT32_MIN + key;  // below those of parts
  for (const MediaPart& part : parts) {
    const std::vector<int32_t> words = words_of(part);
    for (int64_t row = 0; row < part.rows(); ++row)
      media->keys[static_cast<size_t>(part.row + row)] = -1 - words[static_cast<size_t>(row) % words.size()];
  }
  media->parts = std::move(parts);
  return media;
}

PromptReader::PromptReader(const Config& config, const Tokenizer& tokenizer, int64_t most_rows, int64_t cache_bytes)
    : tokenizer_(tokenizer),
      parts_(config, cache_bytes),
      most_rows_(most_rows),
      by_kind_(has_weights_by_kind(config)) {}

void PromptReader::read(std::span<const ExamplePart> parts, Request& into) const {
  PartRows rows;
  parts_.read(parts, tokenizer_, rows, {.most_rows = most_rows_});
  into.media = rows.parts.empty() ? nullptr : prompt_media(rows.ids, std::move(rows.parts), by_kind_);
  into.prompt = std::move(rows.ids);
}

}  // namespace hone
