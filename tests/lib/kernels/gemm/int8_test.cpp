// Products of training in 8 bits: bit for bit those of a plain reference at every instruction set, and what rounding
// does to them.
#include "kernels/gemm/int8.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/parallel.h"
#include "lib/kernels/numbers.h"
#include "support/isa.h"

using namespace hone;
using namespace hone::kernels;
using hone::kernels::test::normal_numbers;
using hone::kernels::test::rounded;
using hone::kernels::test::widened;
using hone::test::at_every_isa;

namespace {

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

// W [n, k], given as [k, n] where `transposed`, as integers with a scale for each output.
struct PlainInt8 {
  int64_t n, k;
  std::vector<int> q;
  std::vector<float> scales;

  PlainInt8(const std::vector<float>& w, int64_t outputs, int64_t inputs, bool transposed)
      : n(outputs), k(inputs), q(at(n * k)), scales(at(n)) {
    const auto number = [&](int64_t r, int64_t c) { return w[at(transposed ? c * n + r : r * k + c)]; };
    for (int64_t r = 0; r < n; ++r) {
      float largest = 0;
      for (int64_t c = 0; c < k; ++c) largest = std::max(largest, std::abs(number(r, c)));
      if (largest == 0) continue;
      bf16 scale = to_bf16(largest / 127.0f);
      if (to_float(scale) < largest / 127.0f) ++scale.bits;
      scales[at(r)] = to_float(scale);
      const float inverse = 1.0f / to_float(scale);
      for (int64_t c = 0; c < k; ++c) q[at(r * k + c)] = static_cast<int>(std::nearbyint(number(r, c) * inverse));
    }
  }
};

// Packed, with its arrays.
struct PackedInt8 {
  std::vector<uint8_t> values;
  std::vector<bf16> scales;
  PackedMatrix w;

  PackedInt8(const std::vector<float>& from, int64_t n, int64_t k, bool transposed) {
    const Int8Sizes sizes = int8_sizes(n, k);
    values.resize(at(sizes.values));
    scales.resize(at(sizes.scales));
    pack_int8(transposed ? view(from.data(), k, n) : view(from.data(), n, k), transposed, values.data(), scales.data());
    w = int8_matrix(n, k, values.data(), scales.data());
  }
  int code(int64_t r, int64_t c) const {
    return values[at(r / 64 * w.shape.panel_bytes + c / 4 * 256 + r % 64 * 4 + c % 4)];
  }
};

// 16 bits for an element.
int draw(uint64_t seed, int64_t row, int64_t column) {
  const uint32_t low = static_cast<uint32_t>(seed), high = static_cast<uint32_t>(seed >> 32);
  const uint32_t key = (static_cast<uint32_t>(row) * 0x9e3779b1u) ^ high;
  uint32_t h = (static_cast<uint32_t>(column / 32 * 16 + column % 16) * 0x85ebca77u) ^ low;
  h = (h ^ (h >> 16)) * 0x85ebca6bu;
  h = ((h ^ (h >> 13)) + key) * 0xc2b2ae35u;
  h = (h ^ (h >> 16)) * 0x27d4eb2fu;
  h ^= h >> 15;
  return static_cast<int>(column % 32 < 16 ? h & 0xffffu : h >> 16);
}

// y [m, n] = x W^T of x [m, k], which becomes integers with a scale for every `segment` columns.
std::vector<float> plain_product(const PlainInt8& w, const std::vector<float>& x, int64_t m, const Rounding& rounding,
                                 int64_t segment = 128) {
  std::vector<float> y(at(m * w.n));
  std::vector<int> a(at(w.k));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t first = 0; first < w.k; first += segment) {
      const int64_t end = std::min(w.k, first + segment);
      float largest = 0;
      for (int64_t c = first; c < end; ++c) largest = std::max(largest, std::abs(x[at(i * w.k + c)]));
      const float inverse = largest > 0 ? 127.0f / largest : 0, worth = largest / 127.0f;
      for (int64_t c = first; c < end; ++c) {
        const float v = x[at(i * w.k + c)];
        if (!rounding.seed) {
          a[at(c)] = static_cast<int>(std::nearbyint(v * inverse));
        } else {
          const int fixed =
              std::clamp(static_cast<int>(std::nearbyint(v * (inverse * 65536.0f))), -127 * 65536, 127 * 65536);
          a[at(c)] = (fixed + draw(*rounding.seed, i, c)) >> 16;
        }
      }
      for (int64_t r = 0; r < w.n; ++r) {
        int sum = 0;
        for (int64_t c = first; c < end; ++c) sum += a[at(c)] * w.q[at(r * w.k + c)];
        float& to = y[at(i * w.n + r)];
        to = std::fma(static_cast<float>(sum), w.scales[at(r)] * worth, to);
      }
    }
  return y;
}

std::vector<float> product(const PackedMatrix& w, const std::vector<float>& x, int64_t m, const Rounding& rounding) {
  std::vector<float> y(at(m * w.shape.rows), std::nanf(""));
  packed_matmul_8(w, view(x.data(), m, w.shape.cols), view(y.data(), m, w.shape.rows), rounding);
  return y;
}

double root_of_squares(const std::vector<float>& y, const std::vector<double>& minus) {
  double sum = 0;
  for (size_t i = 0; i < y.size(); ++i) sum += (y[i] - minus[i]) * (y[i] - minus[i]);
  return std::sqrt(sum);
}

}  // namespace

TEST_CASE("matrices become integers and scales, the same at every instruction set, by rows and by columns") {
  at_every_isa([] {
    for (const auto& [n, k] : {std::array<int64_t, 2>{1, 1}, {64, 4}, {70, 33}, {16, 64}, {130, 259}, {65, 67}})
      for (const bool transposed : {false, true}) {
        std::vector<float> w = normal_numbers(n * k, 1, 0.3);
        if (n > 5)  // an output of zeros
          for (int64_t c = 0; c < k; ++c) w[at(transposed ? c * n + 5 : 5 * k + c)] = 0;
        const PlainInt8 want(w, n, k, transposed);
        const PackedInt8 packed(w, n, k, transposed);
        INFO(n, " ", k, " ", transposed);
        int64_t different = 0;
        for (int64_t r = 0; r < packed.w.shape.panels * 64; ++r) {
          different += to_float(packed.scales[at(r)]) != (r < n ? want.scales[at(r)] : 0.0f);
          for (int64_t c = 0; c < packed.w.shape.steps * 4; ++c)
            different += packed.code(r, c) - 128 != (r < n && c < k ? want.q[at(r * k + c)] : 0);
        }
        CHECK(different == 0);
      }
  });
}

TEST_CASE("products in 8 bits are the plain ones, bit for bit at every instruction set, to nearest and by chance") {
  at_every_isa([] {
    for (const auto& [m, n, k] :
         {std::array<int64_t, 3>{1, 1, 1}, {3, 64, 128}, {7, 65, 100}, {17, 70, 300}, {70, 33, 259}}) {
      const std::vector<float> w = normal_numbers(n * k, 2), x = normal_numbers(m * k, 3);
      const PackedInt8 packed(w, n, k, false);
      const PlainInt8 plain(w, n, k, false);
      for (const Rounding& rounding : {Rounding{}, Rounding{0x123456789abcdefu}}) {
        INFO(m, " ", n, " ", k, " ", rounding.seed.has_value());
        CHECK(product(packed.w, x, m, rounding) == plain_product(plain, x, m, rounding));
        // In bf16, with gaps between rows.
        const std::vector<float> wide = widened(rounded(normal_numbers(m * (k + 3), 4)));
        std::vector<float> dense;
        for (int64_t i = 0; i < m; ++i)
          dense.insert(dense.end(), wide.begin() + i * (k + 3), wide.begin() + i * (k + 3) + k);
        const std::vector<bf16> halves = rounded(wide);
        std::vector<bf16> y(at(m * (n + 1)));
        packed_matmul_8(packed.w, {halves.data(), DType::bf16, m, k, k + 3}, {y.data(), DType::bf16, m, n, n + 1},
                        rounding);
        const std::vector<float> want = plain_product(plain, dense, m, rounding);
        int64_t different = 0;
        for (int64_t i = 0; i < m; ++i)
          for (int64_t r = 0; r < n; ++r) different += y[at(i * (n + 1) + r)].bits != to_bf16(want[at(i * n + r)]).bits;
        CHECK(different == 0);
      }
    }
  });
}

TEST_CASE("products in 8 bits do not depend on threads, nor on how the matrix rounds otherwise") {
  const int before = threads();
  const int64_t m = 131, n = 200, k = 260;
  const PackedInt8 packed(normal_numbers(n * k, 2), n, k, false);
  const std::vector<float> x = normal_numbers(m * k, 3);
  std::vector<std::vector<float>> results;
  for (const int count : {1, 2, 3})
    for (const F32Activations how : {F32Activations::exact, F32Activations::integers}) {
      set_threads(count);
      PackedMatrix w = packed.w;
      w.rounding = {how, how == F32Activations::exact ? 8 : 16};
      results.push_back(product(w, x, m, {99}));
    }
  set_threads(before);
  for (const auto& y : results) CHECK(y == results.front());
}

TEST_CASE("rounding by chance keeps the mean, is never further away than a step, and draws anew for each element") {
  // W has 127 on its diagonal, so that y is 127 times what x was rounded to. All rows of x are the same.
  const int64_t m = 4000, k = 64;
  std::vector<float> w(at(k * k)), row = normal_numbers(k, 5), x;
  for (int64_t i = 0; i < k; ++i) w[at(i * k + i)] = 127;
  for (int64_t i = 0; i < m; ++i) x.insert(x.end(), row.begin(), row.end());
  const PackedInt8 packed(w, k, k, false);
  const std::vector<float> y = product(packed.w, x, m, {7});
  float largest = 0;
  for (const float v : row) largest = std::max(largest, std::abs(v));
  const double step = largest / 127.0;
  // Errors in steps, and how they go together with those of a neighbour: of a column in the same hash, and of a row.
  const auto error = [&](int64_t i, int64_t c) { return (y[at(i * k + c)] / 127.0 - row[at(c)]) / step; };
  const double limit = 6 / std::sqrt(static_cast<double>(m));  // deviations of a mean of m
  for (int64_t c = 0; c < k; ++c) {
    double mean = 0, by_column = 0, by_row = 0, furthest = 0;
    for (int64_t i = 0; i < m; ++i) {
      mean += error(i, c) / static_cast<double>(m);
      by_column += error(i, c) * error(i, c ^ 16) / static_cast<double>(m);
      by_row += error(i, c) * error((i + 1) % m, c) / static_cast<double>(m);
      furthest = std::max(furthest, std::abs(error(i, c)));
    }
    CAPTURE(c);
    CHECK(std::abs(mean) < 0.5 * limit);  // the deviation of one is half a step at most
    CHECK(std::abs(by_column) < 0.25 * limit);
    CHECK(std::abs(by_row) < 0.25 * limit);
    CHECK(furthest < 1.001);
  }
  CHECK(product(packed.w, x, m, {7}) == y);
  CHECK(product(packed.w, x, m, {8}) != y);
}

TEST_CASE("a column far above the others costs digits in its own segment alone") {
  const int64_t m = 40, n = 64, k = 1024;
  const std::vector<float> w = normal_numbers(n * k, 2);
  std::vector<float> x = normal_numbers(m * k, 3);
  for (int64_t i = 0; i < m; ++i) x[at(i * k + 300)] *= 60;
  std::vector<double> exact(at(m * n)), none(at(m * n));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t r = 0; r < n; ++r)
      for (int64_t c = 0; c < k; ++c)
        exact[at(i * n + r)] += static_cast<double>(x[at(i * k + c)]) * static_cast<double>(w[at(r * k + c)]);
  const PlainInt8 plain(w, n, k, false);
  const PackedInt8 packed(w, n, k, false);
  const std::vector<float> whole_rows = plain_product(plain, x, m, {}, k), segments = product(packed.w, x, m, {});
  const double size = root_of_squares(std::vector<float>(at(m * n)), exact);
  const double error = root_of_squares(segments, exact) / size;
  CHECK(error < 0.04);
  CHECK(error < 0.6 * root_of_squares(whole_rows, exact) / size);
}

TEST_CASE("an error of 8 bits: below 2% without outliers, and what is not finite shows where it is") {
  const int64_t m = 30, n = 70, k = 384;
  std::vector<float> w = normal_numbers(n * k, 2), x = normal_numbers(m * k, 3);
  std::vector<double> exact(at(m * n));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t r = 0; r < n; ++r)
      for (int64_t c = 0; c < k; ++c)
        exact[at(i * n + r)] += static_cast<double>(x[at(i * k + c)]) * static_cast<double>(w[at(r * k + c)]);
  const double size = root_of_squares(std::vector<float>(at(m * n)), exact);
  for (const Rounding& rounding : {Rounding{}, Rounding{3}})
    CHECK(root_of_squares(product(PackedInt8(w, n, k, false).w, x, m, rounding), exact) < 0.02 * size);
  w[at(3 * k + 7)] = std::numeric_limits<float>::infinity();
  x[at(5 * k + 200)] = std::nanf("");
  for (const Rounding& rounding : {Rounding{}, Rounding{3}}) {
    const std::vector<float> y = product(PackedInt8(w, n, k, false).w, x, m, rounding);
    int64_t wrong = 0;
    for (int64_t i = 0; i < m; ++i)
      for (int64_t r = 0; r < n; ++r) wrong += std::isnan(y[at(i * n + r)]) != (i == 5 || r == 3);
    CHECK(wrong == 0);
  }
}
