#include "compress/quantize_matrix.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "compress/masks.h"
#include "compress/methods/prune_method.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"
#include "lib/compress/models.h"

using namespace hone;
using namespace hone::test;

namespace {

using kernels::info_of;
using kernels::PackedElement;

std::vector<PackedElement> scaled_elements() {
  std::vector<PackedElement> scaled;
  for (const PackedElement element : kernels::all_elements)
    if (info_of(element).scaled) scaled.push_back(element);
  return scaled;
}

Tensor random_weight(int64_t rows, int64_t cols, float size = 0.05f, uint64_t seed = 1) {
  Random random(seed, "weight");
  Tensor weight = Tensor::empty({rows, cols});
  for (float& w : weight.span<float>()) w = size * static_cast<float>(random.normal());
  return weight;
}

std::vector<float> random_moments(int64_t cols) {
  Random random(2, "moments");
  std::vector<float> moments(static_cast<size_t>(cols));
  for (float& m : moments) m = static_cast<float>(std::exp(2 * random.normal()));
  return moments;
}

// The numbers that the element has codes for, ascending.
std::vector<double> numbers_of(PackedElement element) {
  const kernels::ElementInfo& info = info_of(element);
  std::vector<double> numbers;
  for (int q = info.lowest; q <= info.highest; ++q)
    if (info.code_of(q) >= 0) numbers.push_back(static_cast<double>(info.number_of(q)));
  return numbers;
}

// Of element i of a matrix, before its scale.
double number_at(const QuantizedMatrix& matrix, int64_t i) {
  return static_cast<double>(info_of(matrix.element).number_of(matrix.integers.data<int8_t>()[i]));
}

// That of them which is nearest to x.
double nearest(const std::vector<double>& numbers, double x) {
  const auto above = std::lower_bound(numbers.begin(), numbers.end(), x);
  if (above == numbers.begin()) return numbers.front();
  if (above == numbers.end()) return numbers.back();
  return *above - x < x - above[-1] ? *above : above[-1];
}

// The least weighted squared error of w[0 … n) over every bf16 scale from a 64th to twice the one that reaches the
// largest weight.
double least_error(const float* w, const float* moments, int64_t n, PackedElement element) {
  float largest = 0;
  for (int64_t j = 0; j < n; ++j) largest = std::max(largest, std::fabs(w[j]));
  const std::vector<double> numbers = numbers_of(element);
  double least = std::numeric_limits<double>::infinity();
  const int top = to_bf16(2 * largest / static_cast<float>(numbers.back())).bits;
  for (int i = 0; i < 7 * 128; ++i)
    for (double sign : {1.0, -1.0}) {
      const double scale = sign * static_cast<double>(to_float(bf16{static_cast<uint16_t>(top - i)}));
      double error = 0;
      for (int64_t j = 0; j < n; ++j) {
        const double value = static_cast<double>(w[j]), q = nearest(numbers, value / scale);
        error += static_cast<double>(moments ? moments[j] : 1.0f) * (value - q * scale) * (value - q * scale);
      }
      least = std::min(least, error);
    }
  return least;
}

}  // namespace

TEST_CASE("scales are bf16 numbers, integers stay in range and are the nearest to weight / scale") {
  for (const PackedElement element : scaled_elements())
    for (int64_t group : {0, 32, 64, 128}) {
      const int64_t rows = 5, cols = 150, groups = group_count(cols, group);
      const Tensor weight = random_weight(rows, cols);
      const QuantizedMatrix q = quantize_matrix(weight, {element, group}, "w");
      CHECK(q.rows == rows);
      CHECK(q.cols == cols);
      CHECK(q.group == group);
      CHECK(q.element == element);
      CHECK_FALSE(q.mask);
      REQUIRE(q.scales.shape() == Shape{rows, groups});
      for (float s : q.scales.span<float>()) CHECK(to_float(to_bf16(s)) == s);
      for (int64_t i = 0; i < rows * cols; ++i) {
        const float scale = q.scales.data<float>()[i / cols * groups + (group ? i % cols / group : 0)];
        const double exact = static_cast<double>(weight.data<float>()[i]) / static_cast<double>(scale);
        const double q_here = number_at(q, i);
        CHECK(std::fabs(q_here - exact) <= std::fabs(nearest(numbers_of(element), exact) - exact) + 1e-4);
      }
      if (element == int8)
        CHECK(std::count(q.integers.data<int8_t>(), q.integers.data<int8_t>() + rows * cols, -128) == 0);
    }
}

TEST_CASE("the search finds the best scale there is, weighted and not") {
  const int64_t rows = 10, cols = 96;
  const std::vector<float> moments = random_moments(cols);
  for (const PackedElement element : scaled_elements())
    for (int64_t group : {0, 32})
      for (bool weighted : {false, true}) {
        Tensor weight = random_weight(rows, cols);
        weight.data<float>()[7] = -1.0f;  // an outlier that clipping should pay for, or not
        const QuantizedMatrix q =
            quantize_matrix(weight, {element, group}, "w", weighted ? moments : std::span<const float>());
        const int64_t width = group ? group : cols;
        for (int64_t first = 0; first < rows * cols; first += width) {
          const float* m = weighted ? moments.data() + first % cols : nullptr;
          double error = 0;
          for (int64_t i = first; i < first + width; ++i) {
            const double d = static_cast<double>(weight.data<float>()[i]) -
                             static_cast<double>(q.scales.data<float>()[first / width]) * number_at(q, i);
            error += static_cast<double>(m ? m[i - first] : 1.0f) * d * d;
          }
          CHECK(error <= 1.0001 * least_error(weight.data<float>() + first, m, width, element));
        }
      }
}

TEST_CASE("a search is never worse than the scale of the largest weight, and moments help where they weigh") {
  for (int64_t cols : {32, 257, 768})
    for (const PackedElement element : scaled_elements())
      for (int64_t group : {0, 64}) {
        const Tensor weight = random_weight(8, cols, 0.02f, static_cast<uint64_t>(cols));
        const std::vector<float> moments = random_moments(cols);
        const QuantizedMatrix plain = quantize_matrix(weight, {element, group, false}, "w");
        const QuantizedMatrix searched = quantize_matrix(weight, {element, group}, "w");
        const QuantizedMatrix weighted = quantize_matrix(weight, {element, group}, "w", moments);
        CHECK(quantization_error(weight, searched).relative() <=
              1.00001 * quantization_error(weight, plain).relative());
        CHECK(quantization_error(weight, weighted, moments).relative() <=
              1.00001 * quantization_error(weight, searched, moments).relative());
        // By how much: 25% at the least for normal weights (30% and more in groups of 32).
        if (element == int4)
          CHECK(quantization_error(weight, searched).relative() < 0.75 * quantization_error(weight, plain).relative());
      }
}

TEST_CASE("4-bit integers reach -8 on the side of the largest weight, whichever that is") {
  for (float sign : {1.0f, -1.0f}) {
    Tensor weight = Tensor::zeros({1, 32});
    for (int64_t j = 0; j < 16; ++j) weight.data<float>()[j] = sign * static_cast<float>(j - 8);
    const QuantizedMatrix q = quantize_matrix(weight, {int4, 32}, "w");
    CHECK(q.scales.data<float>()[0] == sign);
    CHECK(quantization_error(weight, q).squared_error == 0);
    CHECK(*std::min_element(q.integers.data<int8_t>(), q.integers.data<int8_t>() + 32) == -8);
  }
}

TEST_CASE("nf4 leaves an eighth less of normal weights than int4 with as many bits") {
  const Tensor weight = random_weight(64, 512);
  for (int64_t group : {32, 64, 128}) {
    const double of_nf4 =
        quantization_error(weight, quantize_matrix(weight, {kernels::element_named("nf4"), group}, "w")).relative();
    const double of_int4 = quantization_error(weight, quantize_matrix(weight, {int4, group}, "w")).relative();
    CHECK(of_nf4 < 0.89 * of_int4);
  }
}

namespace {

// Of normal weights in groups of 32 that are pruned to 40%, squared over the square: as steps between the numbers of an
// element are, or as the last bit of a mantissa.
double most_error(PackedElement element) {
  const kernels::ElementInfo& info = info_of(element);
  if (info.codes_are == kernels::Codes::floating) return std::exp2(-2 * info.mantissa) / 16;
  const double steps = static_cast<double>(numbers_of(element).size() - 1);
  return 1.5 / (steps * steps);
}

}  // namespace

TEST_CASE("pruned weights get the integer 0 and have no say in the scale") {
  const int64_t rows = 6, cols = 100;
  const Tensor weight = random_weight(rows, cols);
  const auto pattern = parse_pattern("unstructured");
  const Bitmask mask = prune_method("magnitude").run({"w", weight, {}, nullptr, *pattern, 0.6}).mask;
  const Tensor kept = expand_mask(mask);
  const Tensor clean = weight.clone(), dirty = weight.clone();
  kernels::apply_mask(clean.view(), mask.data());
  for (int64_t i = 0; i < dirty.size(); ++i)
    if (!kept.data<uint8_t>()[i]) dirty.data<float>()[i] = 1000;
  for (const PackedElement element : scaled_elements()) {
    const QuantizedMatrix q = quantize_matrix(clean, {element, 32}, "w", {}, mask);
    const QuantizedMatrix r = quantize_matrix(dirty, {element, 32}, "w", {}, mask);
    CHECK(same_bytes(q.scales, r.scales));
    CHECK(same_bytes(q.integers, r.integers));
    CHECK(same_bytes(q.mask.bits(), mask.bits()));
    for (int64_t i = 0; i < rows * cols; ++i)
      if (!kept.data<uint8_t>()[i]) CHECK(q.integers.data<int8_t>()[i] == 0);
    CHECK(quantization_error(dirty, q).squared_error == doctest::Approx(quantization_error(clean, q).squared_error));
    CHECK(quantization_error(clean, q).relative() < most_error(element));
  }
}

TEST_CASE("groups of zeros, dead inputs and extreme magnitudes give usable scales") {
  Tensor weight = random_weight(4, 64);
  for (int64_t j = 0; j < 32; ++j) weight.data<float>()[j] = 0;
  QuantizedMatrix q = quantize_matrix(weight, {int4, 32}, "w");
  CHECK(q.scales.data<float>()[0] == 0);
  CHECK(dequantize(q).data<float>()[5] == 0);

  // All moments of a group 0: as without moments.
  std::vector<float> moments(64, 1.0f);
  std::fill(moments.begin() + 32, moments.end(), 0.0f);
  CHECK(same_bytes(quantize_matrix(weight, {int4, 32}, "w", moments).scales, q.scales));
  CHECK(same_bytes(quantize_matrix(weight, {int4, 32}, "w", std::vector<float>(64, 0.0f)).scales, q.scales));

  for (float size : {1e30f, 1e-30f}) {
    const Tensor scaled = random_weight(4, 64, size);
    for (const PackedElement element : scaled_elements()) {
      q = quantize_matrix(scaled, {element, 32}, "w");
      CHECK(quantization_error(scaled, q).relative() < 2 * most_error(element));
    }
  }
  // Scales below the normal numbers, which the processor may read as 0, are not used.
  q = quantize_matrix(random_weight(2, 64, 4e-38f), {int8, 0}, "w");
  for (float s : q.scales.span<float>()) CHECK(s >= std::numeric_limits<float>::min());
  CHECK(quantize_matrix(Tensor::empty({0, 64}), {int8, 0}, "w").integers.size() == 0);
}

TEST_CASE("the result does not depend on the number of threads") {
  const int before = kernels::threads();
  const Tensor weight = random_weight(120, 300);
  const std::vector<float> moments = random_moments(300);
  for (const PackedElement element : scaled_elements()) {
    kernels::set_threads(1);
    const QuantizedMatrix one = quantize_matrix(weight, {element, 32}, "w", moments);
    const double error = quantization_error(weight, one, moments).relative();
    for (int threads : {2, 5}) {
      kernels::set_threads(threads);
      const QuantizedMatrix many = quantize_matrix(weight, {element, 32}, "w", moments);
      CHECK(same_bytes(one.integers, many.integers));
      CHECK(same_bytes(one.scales, many.scales));
      CHECK(quantization_error(weight, many, moments).relative() == error);
    }
  }
  kernels::set_threads(before);
}

TEST_CASE("what cannot be quantized is refused, naming the matrix") {
  const Tensor weight = random_weight(2, 64);
  CHECK(failure([&] {
          quantize_matrix(weight, {kernels::element_named("bf16"), 0}, "blocks.0.up");
        }).starts_with("2 blocks.0.up"));
  CHECK(failure([&] { quantize_matrix(weight, {int4, 48}, "blocks.0.up"); }).starts_with("2 blocks.0.up"));
  CHECK(failure([&] {
          quantize_matrix(weight, {int4, 32}, "blocks.0.up", {}, Bitmask::ones(2, 32));
        }).starts_with("3 blocks.0.up"));
  std::vector<float> moments(64, 1.0f);
  for (float bad : {-1.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    moments[63] = bad;
    CHECK(failure([&] { quantize_matrix(weight, {int4, 32}, "blocks.0.up", moments); }).starts_with("3 blocks.0.up"));
  }
  moments.resize(32);
  CHECK(failure([&] { quantize_matrix(weight, {int4, 32}, "blocks.0.up", moments); }).starts_with("1 blocks.0.up"));
  weight.data<float>()[127] = std::numeric_limits<float>::quiet_NaN();
  CHECK(failure([&] { quantize_matrix(weight, {int8, 0}, "blocks.0.up"); }).starts_with("3 blocks.0.up"));
}
