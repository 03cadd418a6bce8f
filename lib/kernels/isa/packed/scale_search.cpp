// Errors of candidate scales, and rounding to integers.
#include "kernels/packed/scale_search.h"

#include "kernels/isa/set_functions.h"
#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {
namespace {

// Of candidates: four registers where there are enough of them.
constexpr int kLanes = lanes > 4 ? 4 * lanes : 2 * lanes;

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

// As errors(), the lanes being candidates.
void step_errors(const float* magnitudes, const uint8_t* sides, const ValueSteps* steps, const float* moments,
                 int64_t n, const float* scales, float* out) {
  for (int first = 0; first < kScaleCandidates; first += kLanes) {
    float inverse[kLanes], scale[kLanes], sum[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      scale[i] = scales[first + i];
      inverse[i] = 1.0f / scale[i];
      sum[i] = 0;
    }
    for (int64_t j = 0; j < n; ++j) {
      const float a = magnitudes[j], moment = moments[j];
      const ValueSteps& side = steps[sides[j]];
      float quotient[kLanes], q[kLanes];
#pragma omp simd
      for (int i = 0; i < kLanes; ++i) {
        quotient[i] = a * inverse[i];
        q[i] = 0;
      }
      for (int k = 0; k < side.count; ++k) {
        const float middle = side.middles[k], rise = side.rises[k];
#pragma omp simd
        for (int i = 0; i < kLanes; ++i) q[i] += quotient[i] > middle ? rise : 0.0f;
      }
#pragma omp simd
      for (int i = 0; i < kLanes; ++i) {
        const float difference = a - scale[i] * q[i];
        sum[i] += moment * (difference * difference);
      }
    }
    for (int i = 0; i < kLanes; ++i) out[first + i] = sum[i];
  }
}

void round_to_steps(const float* w, int64_t n, float scale, const ValueSteps* steps, int8_t* integers) {
  for (int64_t j = 0; j < n; ++j) {
    const float quotient = scale == 0.0f ? 0.0f : w[j] / scale;
    const ValueSteps& side = steps[quotient < 0];
    const float size = quotient < 0 ? -quotient : quotient;
    float q = 0;
    for (int k = 0; k < side.count; ++k) q += size > side.middles[k] ? side.rises[k] : 0.0f;
    integers[j] = static_cast<int8_t>(quotient < 0 ? -q : q);
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

void set_functions(ScaleSearch& table) {
  table = {errors, step_errors, round, round_to_steps};
}

}  // namespace hone::kernels::HONE_ISA
