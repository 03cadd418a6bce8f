// The inner loops of quantization: the error that each of many candidate scales leaves, and rounding to integers.
#pragma once

#include <cstdint>

namespace hone::kernels {

inline constexpr int scale_batch = 16;  // candidates are tried by multiples of so many

// What a quotient from 0 up is rounded to where values are not neighbouring integers: it starts at 0 and rises by
// rises[k] where the quotient is above middles[k].
struct ValueSteps {
  static constexpr int most = 15;
  int count = 0;
  float middles[most], rises[most];
};

// The numbers of a floating-point element from 0 up.
struct FloatSteps {
  int mantissa = 0;        // bits behind the point
  float least_normal = 1;  // below it numbers are multiples of its last bit
  float highest = 1;
  int integer_of_one = 0;  // q of the number 1: its exponent and mantissa as one integer
};

// Functions for the instruction set in use; each works on one thread. Take them before a parallel loop and call them
// inside.
struct ScaleSearch {
  // errors[i] = sum_j moments[j] (magnitudes[j] - scales[i] q)^2 with q = min(round(magnitudes[j] / scales[i]),
  // limits[j]), for `count` scales, a multiple of scale_batch. The scales are normal numbers above 0, magnitudes are
  // not below 0 and limits at most 2^21.
  void (*errors)(const float* magnitudes, const float* limits, const float* moments, int64_t n, const float* scales,
                 int64_t count, float* errors);
  // The same with q of steps[sides[j]], sides 0 or 1.
  void (*step_errors)(const float* magnitudes, const uint8_t* sides, const ValueSteps* steps, const float* moments,
                      int64_t n, const float* scales, int64_t count, float* errors);
  // The same with q of a floating-point element.
  void (*float_errors)(const float* magnitudes, const float* moments, int64_t n, const FloatSteps& steps,
                       const float* scales, int64_t count, float* errors);
  // What no scale up to scales[i] leaves less than, because it lies beyond the largest value: beyond[i] = sum_j
  // moments[j] max(magnitudes[j] - scales[i] limits[j], 0)^2. And none from scales[i] up, because it lies below the
  // first value: below[i] = sum_j moments[j] min(magnitudes[j], max(scales[i] firsts[j] - magnitudes[j], 0))^2. Of
  // scale_batch scales.
  void (*bounds)(const float* magnitudes, const float* limits, const float* firsts, const float* moments, int64_t n,
                 const float* scales, float* beyond, float* below);
  // integers[j] = w[j] / scale rounded to nearest (ties to even) and clamped to [lowest, highest]; all 0 for a scale of
  // 0.
  void (*round)(const float* w, int64_t n, float scale, float lowest, float highest, int8_t* integers);
  // integers[j] = what w[j] / scale is rounded to: steps[0] on its own side of 0, minus what steps[1] says of -w[j] /
  // scale on the other; all 0 for a scale of 0.
  void (*round_to_steps)(const float* w, int64_t n, float scale, const ValueSteps* steps, int8_t* integers);
  // integers[j] = q of the number of a floating-point element next to w[j] / scale (ties to the even one, none above
  // the highest); all 0 for a scale of 0.
  void (*round_to_floats)(const float* w, int64_t n, float scale, const FloatSteps& steps, int8_t* integers);
};

const ScaleSearch& scale_search();

}  // namespace hone::kernels
