// The logarithm of a mel spectrogram: what encoders of sound are given.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace hone::media {

// Frames of frame() samples, step() apart; the first begins at the first sample, the last ends within the sound (none
// is
// padded). Each is multiplied by a Hann window (periodic) and transformed with fft() points, zeros behind the frame;
// the
// squares of the magnitudes go through `bands` triangles, evenly spaced on Slaney's mel scale from 0 to half the rate
// and of area 2 / (width in Hz) each (M. Slaney, "Auditory Toolbox", 1998, as librosa.filters.mel has it by default).
// Then y = log10(max(x, 1e-10)), y = max(y, largest y of the sound - 8), (y + 4) / 4: as in Radford et al., arXiv
// 2212.04356 (log_mel_spectrogram of its code).
struct MelShape {
  int64_t bands = 40, rate = 16000, milliseconds = 25, step_milliseconds = 10;

  int64_t frame() const { return rate * milliseconds / 1000; }
  int64_t step() const { return rate * step_milliseconds / 1000; }
  int64_t fft() const;  // the power of two that a frame fits in
  int64_t frames(int64_t samples) const { return samples < frame() ? 0 : 1 + (samples - frame()) / step(); }

  bool operator==(const MelShape&) const = default;
};

// [bands, fft / 2 + 1]: the triangles.
std::vector<float> mel_filters(const MelShape& shape);

// [frames, bands]; none for fewer samples than a frame.
std::vector<float> log_mel(std::span<const float> samples, const MelShape& shape);

}  // namespace hone::media
