// Sounds from files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hone::media {

// One channel of samples from -1 to 1.
struct Sound {
  int64_t rate = 0;  // samples a second
  std::vector<float> samples;

  double seconds() const { return static_cast<double>(samples.size()) / static_cast<double>(rate); }
};

// What libsndfile reads (WAV, FLAC, Ogg, AIFF, …), the mean of its channels, at `rate` samples a second (resampled by
// libsamplerate's sinc where it has another). Throws Error(input) with the path for a file that cannot be read, holds
// no
// samples (as WAV files do whose writer never came to complete their header), lasts longer than an hour, or has samples
// that are not finite.
Sound read_sound(const std::string& path, int64_t rate);

// Throws Error(internal) where libsamplerate fails.
Sound resampled(Sound sound, int64_t rate);

}  // namespace hone::media
