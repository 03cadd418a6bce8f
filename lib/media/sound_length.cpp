#include "media/sound_length.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/spelling.h"

namespace hone::media {
namespace {

constexpr size_t most_chunks = 4096;  // in front of the samples: a hostile file has no more of our time

// Sizes of 32 bits from here on are placeholders of programs that write to a pipe: 0x7f000000 less a part of a frame,
// 0x7ffff000, 0x80000000, 0xffffffff. What has as many bytes indeed lasts longer than a sound may.
constexpr uint64_t placeholder = 0x7e000000;

// Where the samples begin, and how many bytes of them are said to follow.
struct Samples {
  uint64_t first, bytes;
};

class SoundHeader {
 public:
  explicit SoundHeader(const ByteSource& file) : file_(file) {}

  uint64_t size() const { return file_.size; }

  bool has(uint64_t at, std::string_view text) const {
    std::array<uint8_t, 16> bytes;
    const std::span to = std::span(bytes).first(text.size());
    return read(at, to) && std::memcmp(to.data(), text.data(), text.size()) == 0;
  }

  // None behind the file's end.
  std::optional<uint64_t> number(uint64_t at, size_t width, bool big_endian) const {
    std::array<uint8_t, 8> bytes;
    const std::span to = std::span(bytes).first(width);
    if (!read(at, to)) return std::nullopt;
    uint64_t value = 0;
    for (size_t i = 0; i < width; ++i) value = value << 8 | to[big_endian ? i : width - 1 - i];
    return value;
  }

  bool read(uint64_t at, std::span<uint8_t> to) const { return file_.read(at, to) == to.size(); }

 private:
  const ByteSource& file_;
};

// What the chunks of a family have: a name, a size behind it that counts the name and itself or not, and a border at
// which the next begins.
struct Chunks {
  uint64_t first;  // the first chunk's place
  size_t name_bytes, size_bytes;
  bool big_endian, counts_itself;
  uint64_t border;
  std::string_view samples;  // the name of the chunk of samples
};

std::optional<Samples> chunk_of_samples(const SoundHeader& header, const Chunks& of) {
  uint64_t at = of.first;
  const uint64_t head = of.name_bytes + of.size_bytes;
  for (size_t chunk = 0; chunk < most_chunks && at < header.size(); ++chunk) {
    std::optional<uint64_t> bytes = header.number(at + of.name_bytes, of.size_bytes, of.big_endian);
    if (!bytes || (of.counts_itself && *bytes < head)) return std::nullopt;
    if (of.counts_itself) *bytes -= head;
    if (header.has(at, of.samples)) return Samples{at + head, *bytes};
    if (*bytes > header.size()) return std::nullopt;
    at += head + *bytes + (of.border - (head + *bytes) % of.border) % of.border;
  }
  return std::nullopt;
}

constexpr std::string_view wave64_data = {"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", 16};

std::optional<Samples> samples_of(const SoundHeader& header) {
  const auto wave = [&](bool big_endian) { return chunk_of_samples(header, {12, 4, 4, big_endian, false, 2, "data"}); };
  if (header.has(0, "RIFF")) return wave(false);
  if (header.has(0, "RIFX")) return wave(true);
  if (header.has(0, "RF64") || header.has(0, "BW64")) {
    // The size of 64 bits stands in the first chunk.
    std::optional<Samples> samples = wave(false);
    if (samples && samples->bytes == UINT32_MAX && header.has(12, "ds64"))
      samples->bytes = header.number(28, 8, false).value_or(0);
    return samples;
  }
  if (header.has(0, "riff")) return chunk_of_samples(header, {40, 16, 8, false, true, 8, wave64_data});
  if (header.has(0, "FORM"))
    return chunk_of_samples(header, {12, 4, 4, true, false, 2, header.has(8, "AIF") ? "SSND" : "BODY"});
  if (header.has(0, "caff")) return chunk_of_samples(header, {8, 4, 8, true, false, 1, "data"});
  for (const bool big_endian : {true, false})
    if (header.has(0, big_endian ? ".snd" : "dns.")) {
      const std::optional<uint64_t> first = header.number(4, 4, big_endian), bytes = header.number(8, 4, big_endian);
      if (first && bytes) return Samples{*first, *bytes};
    }
  return std::nullopt;
}

// Ogg (RFC 3533) is pages, of at most 65,307 bytes: a head of 27 with a mark, a table of lengths, and what they count.
// A file may end behind any of them, as a broadcast does that somebody kept; not within one.
bool ends_within_page(const SoundHeader& header) {
  constexpr uint64_t largest_page = 27 + 255 + 255 * 255;
  constexpr std::string_view mark = {"OggS\0", 5};
  std::vector<uint8_t> tail(std::min(header.size(), largest_page));
  if (!header.read(header.size() - tail.size(), tail)) return false;
  const auto last = std::find_end(tail.begin(), tail.end(), mark.begin(), mark.end(),
                                  [](uint8_t byte, char c) { return byte == static_cast<uint8_t>(c); });
  if (last == tail.end()) return false;
  const std::span page(last, tail.end());
  if (page.size() < 27 || page.size() < size_t{27} + page[26]) return true;
  size_t length = size_t{27} + page[26];
  for (const uint8_t bytes : page.subspan(27, page[26])) length += bytes;
  return page.size() < length;
}

}  // namespace

void require_whole_sound(const ByteSource& file, const std::string& where) {
  const SoundHeader header(file);
  if (header.has(0, "OggS")) {
    if (ends_within_page(header)) throw input_error("{} is cut: it ends within a page of Ogg", where);
    return;
  }
  const std::optional<Samples> samples = samples_of(header);
  if (!samples || samples->bytes == 0) return;
  const bool unknown = samples->bytes >= placeholder && samples->bytes <= UINT32_MAX;
  if (unknown || samples->bytes == UINT64_MAX) return;
  const uint64_t there = file.size - std::min(file.size, samples->first);
  if (there < samples->bytes)
    throw input_error("{} is cut: its header promises {} of samples, and the file has {} of them", where,
                      counted(samples->bytes, "byte"), there);
}

}  // namespace hone::media
