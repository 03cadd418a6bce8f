// How many bytes of samples the header of a sound file promises. libsndfile takes the length of what is there instead,
// and says so in its log alone.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

namespace hone::media {

// A file's bytes by their places: as many as fit and are there go to `to`, and their number comes back.
struct ByteSource {
  uint64_t size = 0;
  std::function<size_t(uint64_t at, std::span<uint8_t> to)> read;
};

// Throws Error(input), naming `where` and both numbers of bytes, for a file that ends before its samples do, as its own
// header tells: of WAV (RIFF, RIFX, RF64, BW64, Wave64), AIFF and other FORMs, AU, CAF, and for Ogg within its last
// page. Says nothing of other forms, and of a header whose writer did not know: zero, or what those put there who
// cannot go back, from 0x7e000000.
void require_whole_sound(const ByteSource& file, const std::string& where);

}  // namespace hone::media
