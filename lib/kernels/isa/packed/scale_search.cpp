// Errors of candidate scales, and rounding to integers.
#include "kernels/packed/scale_search.h"

#include "kernels/isa/float_bits.h"
#include "kernels/isa/set_functions.h"
#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {
namespace {

// Of candidates: four registers where there are enough of them.
constexpr int most_lanes = lanes > 4 ? 4 * lanes : scale_batch;

// Adding and subtracting it leaves no bits for a fraction: rounds to nearest what is below 2^22.
constexpr float rounds = 12582912.0f;  // 1.5 * 2^23

// Calls try_some<N>(first) for all candidates, N at once.
template <class F>
inline __attribute__((always_inline)) void for_candidates(int64_t count, F try_some) {
  int64_t first = 0;
  for (; first + most_lanes <= count; first += most_lanes) try_some.template operator()<most_lanes>(first);
  for (; first < count; first += scale_batch) try_some.template operator()<scale_batch>(first);
}

// The lanes are candidates, not weights: no sum crosses lanes, and a group of any length fills the vectors. Several
// vectors of candidates at a time hide the latency of their sums' additions. add<N>(j, inverse, scale, sum) adds to
// the sums [N] the error of magnitude j under these scales and their inverses.
template <class F>
inline __attribute__((always_inline)) void sum_errors(int64_t n, const float* scales, int64_t count, float* out,
                                                      F add) {
  for_candidates(count, [&]<int N>(int64_t first) {
    float inverse[N], scale[N], sum[N];
    for (int i = 0; i < N; ++i) {
      scale[i] = scales[first + i];
      inverse[i] = 1.0f / scale[i];
      sum[i] = 0;
    }
    for (int64_t j = 0; j < n; ++j) add.template operator()<N>(j, inverse, scale, sum);
    for (int i = 0; i < N; ++i) out[first + i] = sum[i];
  });
}

void errors(const float* magnitudes, const float* limits, const float* moments, int64_t n, const float* scales,
            int64_t count, float* out) {
  const auto add = [&]<int N>(int64_t j, const float* inverse, const float* scale, float* sum)
      __attribute__((always_inline)) {
    const float a = magnitudes[j], limit = limits[j], moment = moments[j];
#pragma omp simd
    for (int i = 0; i < N; ++i) {
      const float quotient = a * inverse[i], bounded = quotient < limit ? quotient : limit;
      const float difference = a - scale[i] * ((bounded + rounds) - rounds);
      sum[i] += moment * (difference * difference);
    }
  };
  sum_errors(n, scales, count, out, add);
}

void step_errors(const float* magnitudes, const uint8_t* sides, const ValueSteps* steps, const float* moments,
                 int64_t n, const float* scales, int64_t count, float* out) {
  const auto add = [&]<int N>(int64_t j, const float* inverse, const float* scale, float* sum)
      __attribute__((always_inline)) {
    const float a = magnitudes[j], moment = moments[j];
    const ValueSteps& side = steps[sides[j]];
    float quotient[N], q[N];
#pragma omp simd
    for (int i = 0; i < N; ++i) {
      quotient[i] = a * inverse[i];
      q[i] = 0;
    }
    for (int k = 0; k < side.count; ++k) {
      const float middle = side.middles[k], rise = side.rises[k];
#pragma omp simd
      for (int i = 0; i < N; ++i) q[i] += quotient[i] > middle ? rise : 0.0f;
    }
#pragma omp simd
    for (int i = 0; i < N; ++i) {
      const float difference = a - scale[i] * q[i];
      sum[i] += moment * (difference * difference);
    }
  };
  sum_errors(n, scales, count, out, add);
}

// x from 0 up to the nearest number of the element. As `rounds`, for bits that depend on the exponent.
inline __attribute__((always_inline)) float to_float_element(float x, float most_bits, float least_normal,
                                                             float highest) {
  const float bounded = x < highest ? x : highest;
  const float power = as_float(bits_of(bounded) & 0x7f800000u), base = power > least_normal ? power : least_normal;
  const float rounds_here = base * most_bits;
  return (bounded + rounds_here) - rounds_here;
}

inline float bits_beyond(const FloatSteps& steps) {  // 1.5 * 2^(23 - mantissa)
  return 1.5f * static_cast<float>(1 << (23 - steps.mantissa));
}

void float_errors(const float* magnitudes, const float* moments, int64_t n, const FloatSteps& steps,
                  const float* scales, int64_t count, float* out) {
  const float most_bits = bits_beyond(steps), least_normal = steps.least_normal, highest = steps.highest;
  const auto add = [&]<int N>(int64_t j, const float* inverse, const float* scale, float* sum)
      __attribute__((always_inline)) {
    const float a = magnitudes[j], moment = moments[j];
#pragma omp simd
    for (int i = 0; i < N; ++i) {
      const float difference = a - scale[i] * to_float_element(a * inverse[i], most_bits, least_normal, highest);
      sum[i] += moment * (difference * difference);
    }
  };
  sum_errors(n, scales, count, out, add);
}

void round_to_floats(const float* w, int64_t n, float scale, const FloatSteps& steps, int8_t* integers) {
  const float most_bits = bits_beyond(steps), least_normal = steps.least_normal, highest = steps.highest;
  // Below the least normal number q is how many of its last bits there are.
  const float small_unit = static_cast<float>(1 << steps.mantissa) / least_normal;
  const int shift = 23 - steps.mantissa, start = (127 << steps.mantissa) - steps.integer_of_one;
  for (int64_t j = 0; j < n; ++j) {
    const float quotient = scale == 0.0f ? 0.0f : w[j] / scale, size = quotient < 0 ? -quotient : quotient;
    const float number = to_float_element(size, most_bits, least_normal, highest);
    const int q = number < least_normal ? static_cast<int>(number * small_unit)
                                        : static_cast<int>(bits_of(number) >> shift) - start;
    integers[j] = static_cast<int8_t>(quotient < 0 ? -q : q);
  }
}

void bounds(const float* magnitudes, const float* limits, const float* firsts, const float* moments, int64_t n,
            const float* scales, float* beyond, float* below) {
  float scale[scale_batch], high[scale_batch], low[scale_batch];
  for (int i = 0; i < scale_batch; ++i) {
    scale[i] = scales[i];
    high[i] = low[i] = 0;
  }
  for (int64_t j = 0; j < n; ++j) {
    const float a = magnitudes[j], limit = limits[j], first = firsts[j], moment = moments[j];
#pragma omp simd
    for (int i = 0; i < scale_batch; ++i) {
      const float over = a - scale[i] * limit, lack = scale[i] * first - a;
      const float beyond_it = over > 0 ? over : 0.0f, some = lack > 0 ? lack : 0.0f, below_it = some < a ? some : a;
      high[i] += moment * (beyond_it * beyond_it);
      low[i] += moment * (below_it * below_it);
    }
  }
  for (int i = 0; i < scale_batch; ++i) {
    beyond[i] = high[i];
    below[i] = low[i];
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
    integers[j] = static_cast<int8_t>((clamped + rounds) - rounds);  // ties to even
  }
}

}  // namespace

void set_functions(ScaleSearch& table) {
  table = {errors, step_errors, float_errors, bounds, round, round_to_steps, round_to_floats};
}

}  // namespace hone::kernels::HONE_ISA
