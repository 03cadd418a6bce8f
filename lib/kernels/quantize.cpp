#include "kernels/quantize.h"

#include <cmath>
#include <cstring>

namespace hone::kernels {

// The lanes are candidates, not weights: no sum crosses lanes, so the order of additions is the same whatever the
// vector's width, and a group of any length fills the vectors. The compiler vectorizes the inner loop for the baseline
// set; that is fast enough (see docs/results) that a copy for each instruction set would not be noticed beside reading
// and writing the files.
void scale_errors(const float* magnitudes, const float* limits, const float* moments, int64_t n, const float* scales,
                  float* errors) {
  constexpr int lanes = 16;
  for (int first = 0; first < kScaleCandidates; first += lanes) {
    float inverse[lanes], scale[lanes], sum[lanes] = {};
    for (int i = 0; i < lanes; ++i) {
      scale[i] = scales[first + i];
      inverse[i] = 1.0f / scale[i];
    }
    for (int64_t j = 0; j < n; ++j) {
      const float a = magnitudes[j], limit = limits[j], moment = moments[j];
      for (int i = 0; i < lanes; ++i) {
        // Truncation of x + 1/2 rounds what is not negative, and every instruction set has it for vectors.
        const float rounded = static_cast<float>(static_cast<int32_t>(a * inverse[i] + 0.5f));
        const float q = rounded < limit ? rounded : limit;
        const float difference = a - scale[i] * q;
        sum[i] += moment * difference * difference;
      }
    }
    std::memcpy(errors + first, sum, sizeof(sum));
  }
}

void round_to_scale(const float* w, int64_t n, float scale, float lowest, float highest, int8_t* integers) {
  if (scale == 0.0f) {
    std::memset(integers, 0, static_cast<size_t>(n));
    return;
  }
  for (int64_t j = 0; j < n; ++j) {
    const float x = w[j] / scale;
    const float clamped = x < lowest ? lowest : x > highest ? highest : x;
    integers[j] = static_cast<int8_t>(std::nearbyint(clamped));
  }
}

}  // namespace hone::kernels
