// Bytes of small sounds and images for tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/random.h"

namespace hone::test {

// A WAV file: one channel of 16 bits, 8000 samples a second.
inline std::string wav_of(const std::vector<int16_t>& samples) {
  std::string bytes;
  const auto put = [&](size_t n, int count) {
    for (int i = 0; i < count; ++i) bytes += static_cast<char>(n >> 8 * i & 255);
  };
  const size_t size = 2 * samples.size();
  bytes += "RIFF", put(36 + size, 4), bytes += "WAVEfmt ";
  put(16, 4), put(1, 2), put(1, 2), put(8000, 4), put(16000, 4), put(2, 2), put(16, 2);
  bytes += "data", put(size, 4);
  for (const int16_t sample : samples) put(static_cast<uint16_t>(sample), 2);
  return bytes;
}

// `count` samples of noise that each `seed` has of its own, and louder the larger it is.
inline std::string noise_wav(size_t count, uint64_t seed) {
  std::vector<int16_t> samples(count);
  Random random(seed, "wav");
  for (int16_t& sample : samples)
    sample = static_cast<int16_t>(100 * static_cast<double>(1 << seed % 6) * random.normal());
  return wav_of(samples);
}

// An IDX file of `count` images of 4 x 6 pixels of noise, each brighter than those before it.
inline std::string noise_idx(int count) {
  std::string bytes("\0\0\x08\x03\0\0\0\0\0\0\0\4\0\0\0\6", 16);
  bytes[7] = static_cast<char>(count);
  Random random(1, "idx");
  for (int i = 0; i < 24 * count; ++i)
    bytes += static_cast<char>(random.below(256) * static_cast<uint64_t>(i / 24 + 1) / static_cast<uint64_t>(count));
  return bytes;
}

}  // namespace hone::test
