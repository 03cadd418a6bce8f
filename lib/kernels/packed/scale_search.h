// The inner loops of quantization: the error that each of many candidate scales leaves, and rounding to integers.
#pragma once

#include <cstdint>

namespace hone::kernels {

inline constexpr int kScaleCandidates = 64;

// Functions for the instruction set in use; each works on one thread. Take them before a parallel loop and call them
// inside.
struct ScaleSearch {
  // errors[i] = sum_j moments[j] (magnitudes[j] - scales[i] q)^2 with q = min(round(magnitudes[j] / scales[i]),
  // limits[j]), for kScaleCandidates scales. The scales are normal numbers above 0 and each magnitude is from 0 to 2^30
  // times each of them.
  void (*errors)(const float* magnitudes, const float* limits, const float* moments, int64_t n, const float* scales,
                 float* errors);
  // integers[j] = w[j] / scale rounded to nearest (ties to even) and clamped to [lowest, highest]; all 0 for a scale of
  // 0.
  void (*round)(const float* w, int64_t n, float scale, float lowest, float highest, int8_t* integers);
};

ScaleSearch scale_search();

}  // namespace hone::kernels
