// Errors of candidate scales, and rounding to integers.
#include "kernels/isa/packed/scale_search_table.h"

namespace hone::kernels::HONE_ISA {
namespace {

#if defined(HONE_ISA_portable)
constexpr int kLanes = 8;
#elif defined(HONE_ISA_avx2)
constexpr int kLanes = 32;
#else
constexpr int kLanes = 64;
#endif

// The lanes are candidates, not weights: no sum crosses lanes, and a group of any length fills the vectors. Several
// vectors of candidates at a time hide the latency of their sums' additions.
void errors(const float* magnitudes, const float* limits, const float* moments, int64_t n, const float* scales,
            float* out) {
  for (int first = 0; first < kScaleCandidates; first += kLanes) {
    float inverse[kLanes], scale[kLanes], sum[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      scale[i] = scales[first + i];
      inverse[i] = 1.0f / scale[i];
      sum[i] = 0;
    }
    for (int64_t j = 0; j < n; ++j) {
      const float a = magnitudes[j], limit = limits[j], moment = moments[j];
#pragma omp simd
      for (int i = 0; i < kLanes; ++i) {
        // Truncation of x + 1/2 rounds what is not negative, and every instruction set has it for vectors.
        const float rounded = static_cast<float>(static_cast<int32_t>(a * inverse[i] + 0.5f));
        const float q = rounded < limit ? rounded : limit;
        const float difference = a - scale[i] * q;
        sum[i] += moment * (difference * difference);
      }
    }
    for (int i = 0; i < kLanes; ++i) out[first + i] = sum[i];
  }
}

void round(const float* w, int64_t n, float scale, float lowest, float highest, int8_t* integers) {
  if (scale == 0.0f) {
    for (int64_t j = 0; j < n; ++j) integers[j] = 0;
    return;
  }
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) {
    const float x = w[j] / scale;
    const float low = x < lowest ? lowest : x;
    const float clamped = low > highest ? highest : low;
    // Adding and subtracting 1.5 * 2^23 leaves no bits for a fraction: rounds to nearest, ties to even.
    integers[j] = static_cast<int8_t>((clamped + 12582912.0f) - 12582912.0f);
  }
}

}  // namespace

ScaleSearch scale_search_table() {
  return {errors, round};
}

}  // namespace hone::kernels::HONE_ISA
