#include "compress/quantize_matrix.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/stop.h"
#include "compress/masks.h"
#include "kernels/packed/nearest.h"
#include "kernels/packed/scale_search.h"
#include "kernels/parallel.h"

namespace hone {
namespace {

constexpr int batch = kernels::scale_batch;
constexpr int spacing = 8;                // of samples, in bf16 numbers: it has 128 from a power of two to the next
constexpr int stretch = batch * spacing;  // numbers that are decided about at once
constexpr int half_stretch = stretch / 2;
constexpr int most_stretches = 20;  // downwards: a millionth of the scale that reaches the largest weight
constexpr float smallest_scale = std::numeric_limits<float>::min();  // a normal number, so that its inverse is finite

// Of a bf16 number by its mantissa: how far those between two samples may be from it, over the smaller of the two.
constexpr std::array<float, 128> distances = [] {
  const auto number = [](int mantissa) {  // beyond a power of two the steps are others
    const auto m = static_cast<float>(mantissa);
    return m < 0 ? 128 + m / 2 : m < 128 ? 128 + m : 2 * m;
  };
  std::array<float, 128> d{};
  for (int mantissa = 0; mantissa < 128; ++mantissa) {
    const float here = number(mantissa), above = number(mantissa + spacing / 2),
                below = number(mantissa - spacing / 2 + 1);
    d[static_cast<size_t>(mantissa)] = std::max((above - here) / here, (here - below) / below);
  }
  return d;
}();

// The integers that a weight over its scale may become, from 0 to either side; side 0 is that of the scale's sign.
struct Grid {
  float first[2], last[2];  // nearest to 0, and farthest
  kernels::Codes codes;     // of a table: `steps`; floating: `floats`; else integers that are neighbours
  kernels::ValueSteps steps[2];
  kernels::FloatSteps floats;
  bool symmetric;  // both sides are alike: the sign of a scale makes no difference
};

Grid grid_of(kernels::PackedElement element) {
  const kernels::ElementInfo& info = kernels::info_of(element);
  Grid grid{};
  grid.codes = info.codes_are;
  grid.symmetric = grid.codes != kernels::Codes::table && info.highest == -info.lowest;
  if (grid.codes == kernels::Codes::floating)
    grid.floats = {info.mantissa, info.least_normal(), info.number_of(info.highest), info.bias << info.mantissa};
  for (const int side : {0, 1}) {
    const int sign = side ? -1 : 1;
    grid.first[side] = info.number_of(1);
    grid.last[side] = side ? -info.number_of(info.lowest) : info.number_of(info.highest);
    kernels::ValueSteps& steps = grid.steps[side];
    float before = 0;
    for (int code = info.zero + sign; grid.codes == kernels::Codes::table && code >= 0 && code < info.codes();
         code += sign) {
      if (steps.count == static_cast<int>(std::size(steps.middles)))
        throw internal_error("more than {} values of {} on one side of 0", std::size(steps.middles), info.name);
      const float value = static_cast<float>(sign * info.integer_of(code));
      if (steps.count == 0) grid.first[side] = value;
      steps.middles[steps.count] = (before + value) / 2;
      steps.rises[steps.count++] = value - before;
      before = value;
    }
  }
  return grid;
}

// The weights of one group that are not zero, brought into a range where no square overflows, with all a search needs.
class Group {
 public:
  Group(int64_t capacity, const Grid& grid, const kernels::ScaleSearch& loops)
      : grid_(grid),
        loops_(loops),
        magnitudes_(static_cast<size_t>(capacity) + 1),
        limits_(magnitudes_),
        firsts_(magnitudes_),
        moments_(magnitudes_),
        negative_(magnitudes_.size()),
        sides_(magnitudes_.size()) {}

  // Gathers w[0 … n); kept(c) tells whether column c is; `moments` may be null. False when nothing is left.
  template <class Kept>
  bool gather(const float* w, const float* moments, int64_t n, Kept&& kept) {
    size_ = 0;
    largest_ = 0;
    float total = 0;
    for (int64_t c = 0; c < n; ++c) {
      const bool counts = w[c] != 0.0f && kept(c);
      const float moment = moments ? moments[c] : 1.0f;
      magnitudes_[size_] = std::fabs(w[c]);  // and is overwritten by the next where it does not count
      moments_[size_] = moment;
      negative_[size_] = w[c] < 0;
      largest_ = counts ? std::max(largest_, magnitudes_[size_]) : largest_;
      total += counts ? moment : 0.0f;
      size_ += counts;
    }
    if (size_ == 0) return false;
    if (!(total > 0)) std::fill_n(moments_.begin(), size_, 1.0f);
    exponent_ = std::ilogb(largest_);
    const double factor = std::ldexp(1.0, -exponent_);  // exact, also for what becomes too small for a normal number
    for (size_t i = 0; i < size_; ++i)
      magnitudes_[i] = static_cast<float>(static_cast<double>(magnitudes_[i]) * factor);
    largest_ = std::ldexp(largest_, -exponent_);
    float squares = 0;
    for (size_t i = 0; i < size_; ++i) squares += moments_[i] * (magnitudes_[i] * magnitudes_[i]);
    norm_ = std::sqrt(squares);
    return true;
  }

  // The scale that reaches the largest weight from either side, in bf16; its sign is +.
  float plain_scale() const { return stored(to_bf16(largest_ / grid_.last[0])); }

  float best_scale() {
    Choice best;
    if (grid_.codes == kernels::Codes::floating) {
      search_octave(best);
      return stored(best.scale);
    }
    search(false, best);
    if (!grid_.symmetric) search(true, best);
    return best.negative ? -stored(best.scale) : stored(best.scale);
  }

 private:
  struct Choice {
    float error = std::numeric_limits<float>::infinity();
    bf16 scale{};
    bool negative = false;
  };

  float stored(bf16 scale) const {
    return std::max(smallest_scale, to_float(to_bf16(std::ldexp(to_float(scale), exponent_))));
  }

  // Of floating-point numbers another octave is the same again, but for the numbers that are too small and those cut
  // off: every bf16 number from the scale that reaches the largest weight to its double, and some below it.
  void search_octave(Choice& best) const {
    constexpr int above = 128, below = 31, count = above + below + 1;
    static_assert(count % batch == 0);
    const int top = to_bf16(largest_ / grid_.last[0]).bits + above;
    float scales[count], found[count];
    for (int i = 0; i < count; ++i) scales[i] = scale_of(top - i);
    errors_of(scales, count, found);
    offer(
        found, count, [&](int i) { return top - i; }, false, best);
  }

  // Branch and bound over stretches of neighbouring bf16 numbers, from the scale that reaches the largest weight
  // downwards, then upwards from it.
  void search(bool negative_scale, Choice& best) {
    for (size_t i = 0; i < size_; ++i) {
      sides_[i] = static_cast<bool>(negative_[i]) != negative_scale;
      limits_[i] = grid_.last[sides_[i]];
      firsts_[i] = grid_.first[sides_[i]];
    }
    const int start = to_bf16(largest_ / grid_.last[0]).bits;
    // Of the first half stretches downwards and upwards, at their far ends.
    float scales[batch], beyond[batch], below[batch];
    for (int i = 0; i < batch / 2; ++i) {
      scales[i] = scale_of(start - (i + 1) * half_stretch);
      scales[batch / 2 + i] = scale_of(start + i * half_stretch + 1);
    }
    loops_.bounds(magnitudes_.data(), limits_.data(), firsts_.data(), moments_.data(), static_cast<int64_t>(size_),
                  scales, beyond, below);
    for (int top = start, i = 0; i < most_stretches; ++i, top -= stretch) {
      const bool known = 2 * i + 1 < batch / 2;
      if (i > 0 && (known ? beyond[2 * i - 1] : clipping_error(scale_of(top))) >= best.error) break;
      try_stretch(top, known ? beyond[2 * i] : 0, negative_scale, best);
    }
    for (int top = start + stretch, i = 0;; top += stretch, ++i) {
      const bool known = 2 * i + 1 < batch / 2;
      if ((known ? below[batch / 2 + 2 * i] : small_weights_error(scale_of(top - stretch + 1))) >= best.error) break;
      if (try_stretch(top, 0, negative_scale, best) > 2 * best.error) break;
    }
  }

  // Looks for better scales among the bits top, top - 1, …, of a stretch; returns the least error of its samples. Of
  // every `spacing` of them one is tried first, and the others only where they may be better than the best so far. The
  // lower half of the stretch leaves at least `lower_half`.
  float try_stretch(int top, float lower_half, bool negative_scale, Choice& best) {
    int samples[batch];
    float found[batch], least_near[batch];
    for (int i = 0; i < batch; ++i) samples[i] = top - spacing / 2 - i * spacing;
    try_batch(samples, found, negative_scale, best);
    const int first = static_cast<int>(std::min_element(found, found + batch) - found);
    bounds_near(samples, found, least_near);
    int worth = 0;
    for (int i = 0; i < batch; ++i) worth += least_near[i] < best.error;
    if (worth > batch / 2) {  // fine steps: what one scale leaves says little of the next
      try_all(top, negative_scale, best);
      if (lower_half < best.error) try_all(top - half_stretch, negative_scale, best);
      return found[first];
    }
    int bits[batch], filled = 0;
    const auto try_filled = [&] {
      float errors[batch];
      if (filled == 0) return;
      std::fill(bits + filled, bits + batch, bits[0]);
      try_batch(bits, errors, negative_scale, best);
      filled = 0;
    };
    const auto add = [&](int i) {
      for (int number = samples[i] + spacing / 2; number > samples[i] - spacing / 2; --number)
        if (number != samples[i]) bits[filled++] = number;
    };
    if (worth > 0) add(first);  // whose neighbours are likely to exclude others
    for (int i = 0; i < batch; ++i) {
      if (i == first || !(least_near[i] < best.error)) continue;
      add(i);
      if (filled + spacing > batch + 1) try_filled();
    }
    try_filled();
    return found[first];
  }

  // The least error that any number near each sample may leave. Where values at scale s are no farther than e from the
  // weights (as lengths of vectors), those at a scale t are no nearer than (e - d |w|) / (1 + d) with d = |s - t| / t:
  // the same multiples of t are d times their length, at most |w| and their own distance, away from those of s.
  void bounds_near(const int (&samples)[batch], const float (&found)[batch], float (&least)[batch]) const {
    for (int i = 0; i < batch; ++i) {
      const float d = distances[static_cast<size_t>(samples[i] & 127)];
      const float near = std::max(0.0f, (std::sqrt(found[i]) - d * norm_) / (1 + d));
      least[i] = near * near * 0.9999f;  // sums are rounded
    }
  }

  void try_batch(const int (&bits)[batch], float (&found)[batch], bool negative_scale, Choice& best) {
    float scales[batch];
    for (int i = 0; i < batch; ++i) scales[i] = scale_of(bits[i]);
    errors_of(scales, batch, found);
    offer(
        found, batch, [&](int i) { return bits[i]; }, negative_scale, best);
  }

  // The scales with the bits top, top - 1, …, of half a stretch.
  void try_all(int top, bool negative_scale, Choice& best) {
    float scales[half_stretch], found[half_stretch];
    for (int i = 0; i < half_stretch; ++i) scales[i] = scale_of(top - i);
    errors_of(scales, half_stretch, found);
    offer(
        found, half_stretch, [&](int i) { return top - i; }, negative_scale, best);
  }

  // Of equal errors the larger scale is taken, so that the order of tries makes no difference.
  template <class Bits>
  static void offer(const float* errors, int count, Bits&& bits, bool negative, Choice& best) {
    int better = 0;  // counted first, without a branch: mostly there is none
    for (int i = 0; i < count; ++i) better += errors[i] <= best.error;
    if (better == 0) return;
    for (int i = 0; i < count; ++i)
      if (errors[i] < best.error || (errors[i] == best.error && negative == best.negative && bits(i) > best.scale.bits))
        best = {errors[i], bf16{static_cast<uint16_t>(bits(i))}, negative};
  }

  void errors_of(const float* scales, int64_t count, float* found) const {
    const auto n = static_cast<int64_t>(size_);
    if (grid_.codes == kernels::Codes::table) {
      loops_.step_errors(magnitudes_.data(), sides_.data(), grid_.steps, moments_.data(), n, scales, count, found);
    } else if (grid_.codes == kernels::Codes::floating) {
      loops_.float_errors(magnitudes_.data(), moments_.data(), n, grid_.floats, scales, count, found);
    } else {
      loops_.errors(magnitudes_.data(), limits_.data(), moments_.data(), n, scales, count, found);
    }
  }

  static float scale_of(int bits) { return to_float(bf16{static_cast<uint16_t>(bits)}); }

  // No scale up to `scale` leaves less: that much lies beyond the largest integer.
  float clipping_error(float scale) const {
    float sum = 0;
    for (size_t i = 0; i < size_; ++i) {
      const float beyond = std::max(magnitudes_[i] - limits_[i] * scale, 0.0f);
      sum += moments_[i] * beyond * beyond;
    }
    return sum;
  }

  // No scale from `scale` up leaves less: weights below its first multiple can only become 0 or that.
  float small_weights_error(float scale) const {
    float sum = 0;
    for (size_t i = 0; i < size_; ++i) {
      const float first = scale * grid_.first[sides_[i]];
      const float distance = std::min(magnitudes_[i], std::max(first - magnitudes_[i], 0.0f));
      sum += moments_[i] * distance * distance;
    }
    return sum;
  }

  const Grid& grid_;
  kernels::ScaleSearch loops_;
  size_t size_ = 0;
  int exponent_ = 0;
  float largest_ = 0, norm_ = 0;
  std::vector<float> magnitudes_, limits_, firsts_, moments_;
  std::vector<uint8_t> negative_, sides_;
};

void round_group(const kernels::ScaleSearch& loops, const Grid& grid, const float* w, int64_t n, float scale,
                 int8_t* out) {
  if (grid.codes == kernels::Codes::table) {
    loops.round_to_steps(w, n, scale, grid.steps, out);
  } else if (grid.codes == kernels::Codes::floating) {
    loops.round_to_floats(w, n, scale, grid.floats, out);
  } else {
    loops.round(w, n, scale, -grid.last[1], grid.last[0], out);
  }
}

void check_inputs(const Tensor& weight, const QuantizeOptions& options, const std::string& where,
                  std::span<const float> moments, const Bitmask& mask) {
  if (const auto& info = kernels::info_of(options.element); !info.scaled)
    throw usage_error("{}: {} has no scales to search", where, info.name);
  if (const int64_t g = options.group; g != 0 && g != 32 && g != 64 && g != 128)
    throw usage_error("{}: a group of {} columns is not supported; choose 32, 64 or 128, or one scale for each row",
                      where, g);
  const int64_t rows = weight.dim(0), cols = weight.dim(1);
  if (!moments.empty() && static_cast<int64_t>(moments.size()) != cols)
    throw internal_error("{}: {} calibration moments for {} columns", where, moments.size(), cols);
  for (float m : moments)
    if (!(m >= 0 && std::isfinite(m)))
      throw input_error("{}: a calibration moment of {}; the calibration run has overflowed or its model is damaged",
                        where, m);
  if (mask) check_mask(mask, rows, cols, where);
  std::atomic<bool> finite{true};
  kernels::parallel_for(weight.size(), 1 << 16, [&](int64_t begin, int64_t end) {
    bool all = true;
    for (int64_t i = begin; i < end; ++i) all &= std::isfinite(weight.data<float>()[i]);
    if (!all) finite = false;
  });
  if (!finite)
    throw input_error("{}: weights that are not finite numbers cannot be quantized; the model is damaged", where);
}

// Moments relative to the largest, so that sums of them stay in range; only their ratios matter.
std::vector<float> relative(std::span<const float> moments) {
  std::vector<float> scaled(moments.begin(), moments.end());
  const float largest = scaled.empty() ? 0 : *std::max_element(scaled.begin(), scaled.end());
  if (largest > 0)
    for (float& m : scaled) m /= largest;
  return scaled;
}

bool kept_in(const uint8_t* bits, int64_t c) {
  return !bits || kernels::bit_at(bits, c);
}

}  // namespace

QuantizedMatrix quantize_matrix(const Tensor& weight, const QuantizeOptions& options, const std::string& where,
                                std::span<const float> moments, const Bitmask& mask) {
  check_inputs(weight, options, where, moments, mask);
  const int64_t rows = weight.dim(0), cols = weight.dim(1), groups = group_count(cols, options.group);
  const int64_t width = options.group ? options.group : cols;
  QuantizedMatrix q{rows,
                    cols,
                    options.group,
                    options.element,
                    Tensor::empty({rows, cols}, DType::i8),
                    Tensor::empty({rows, groups}),
                    mask.clone()};
  const std::vector<float> importance = relative(moments);
  const Grid grid = grid_of(options.element);
  const kernels::ScaleSearch loops = kernels::scale_search();
  kernels::parallel_for(rows, kernels::row_grain(4 * cols), [&](int64_t begin, int64_t end) {
    Group group(std::min(width, cols), grid, loops);
    for (int64_t r = begin; r < end && !stop_wanted(); ++r) {
      const uint8_t* bits = mask ? mask.row(r) : nullptr;
      const float* w = weight.data<float>() + r * cols;
      int8_t* out = q.integers.data<int8_t>() + r * cols;
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t first = g * width, last = std::min(cols, first + width);
        float scale = 0;
        if (group.gather(w + first, importance.empty() ? nullptr : importance.data() + first, last - first,
                         [&](int64_t c) { return kept_in(bits, first + c); }))
          scale = options.search ? group.best_scale() : group.plain_scale();
        q.scales.data<float>()[r * groups + g] = scale;
        round_group(loops, grid, w + first, last - first, scale, out + first);
      }
      for (int64_t c = 0; bits && c < cols; ++c)
        if (!kept_in(bits, c)) out[c] = 0;
    }
  });
  check_stop();
  return q;
}

QuantizationError quantization_error(const Tensor& weight, const QuantizedMatrix& matrix,
                                     std::span<const float> moments) {
  const int64_t rows = matrix.rows, cols = matrix.cols, groups = group_count(cols, matrix.group);
  const int64_t width = matrix.group ? matrix.group : std::max<int64_t>(cols, 1);
  const kernels::ElementNumbers numbers(matrix.element);
  std::vector<QuantizationError> row_errors(static_cast<size_t>(rows));  // summed in order, at any number of threads
  kernels::parallel_for(rows, kernels::row_grain(4 * cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end && !stop_wanted(); ++r) {
      const uint8_t* bits = matrix.mask ? matrix.mask.row(r) : nullptr;
      const float* w = weight.data<float>() + r * cols;
      const int8_t* q = matrix.integers.data<int8_t>() + r * cols;
      const float* scales = matrix.scales.data<float>() + r * groups;
      QuantizationError& sum = row_errors[static_cast<size_t>(r)];
      for (int64_t c = 0; c < cols; ++c) {
        if (!kept_in(bits, c)) continue;
        const double value = static_cast<double>(w[c]),
                     moment = moments.empty() ? 1.0 : static_cast<double>(moments[c]);
        const double error = value - static_cast<double>(scales[c / width]) * static_cast<double>(numbers[q[c]]);
        sum.squared_error += moment * error * error;
        sum.squared_norm += moment * value * value;
      }
    }
  });
  check_stop();
  QuantizationError total;
  for (const QuantizationError& row : row_errors) {
    total.squared_error += row.squared_error;
    total.squared_norm += row.squared_norm;
  }
  return total;
}

}  // namespace hone
