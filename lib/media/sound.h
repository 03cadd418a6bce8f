// Sounds: files, changes, and their row among the media.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "media/medium.h"

namespace hone::media {

// One channel of samples from -1 to 1.
struct Sound {
  int64_t rate = 0;  // samples a second
  std::vector<float> samples;

  int64_t bytes() const { return static_cast<int64_t>(samples.size() * sizeof(float)); }
  double seconds() const { return static_cast<double>(samples.size()) / static_cast<double>(rate); }
};

constexpr double most_seconds = 3600;  // of a sound

struct SoundTooLong : Error {
  using Error::Error;
};

// What libsndfile reads (WAV, FLAC, Ogg, AIFF, …), the mean of its channels, at `rate` samples a second (resampled by
// libsamplerate's sinc where it has another). Throws Error(input) with the path for a file that cannot be read, is cut
// (as far as its form tells: sound_length.h, and the number of samples of FLAC), holds no samples (as WAV files do whose
// writer never came to complete their header), lasts longer than an hour (SoundTooLong) or has more samples than one of
// two channels at 96,000 Hz, or has samples that are not finite.
Sound read_sound(const std::string& path, int64_t rate);
// The same of such a file's bytes, which `where` names in errors, and of at most so many seconds, an hour at most:
// beyond them nothing is decoded, and SoundTooLong thrown.
Sound decode_sound(std::string_view bytes, int64_t rate, const std::string& where, double seconds = most_seconds);

// Throws Error(input), naming both rates, where libsamplerate does not go from one to the other.
Sound resampled(Sound sound, int64_t rate);

struct SoundAugmentation {
  double shift = 0;  // seconds of silence before it, or of its beginning left out
  double speed = 0;  // part of the speed, pitch with it
  double gain = 0;   // decibels
  double masks = 0;  // of the spectrogram: bands of up to an eighth of its width and of its length each (SpecAugment,
                     // Park et al., arXiv 1904.08779, without warping)

  bool any() const { return shift > 0 || speed > 0 || gain > 0 || masks > 0; }
};

// As parse_augmentation() reads it: "speed:0.1,masks:1". Throws Error(usage) with `option`.
SoundAugmentation sound_augmentation(const std::string& text, const std::string& option);

// What was drawn from `random`, between samples linear; and of the features of that.
Sound augmented(const Sound& sound, const SoundAugmentation& by, Random& random);
void mask(Features& features, const SoundAugmentation& by, Random& random);

extern const Medium sound_medium;

}  // namespace hone::media
