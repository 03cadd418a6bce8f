// Products of f32 rows of our own: right, and of the same bits whatever stands beside a row or a column.
#include "kernels/gemm/f32.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "lib/kernels/numbers.h"
#include "support/isa.h"

using namespace hone;
using namespace hone::kernels;
using namespace hone::kernels::test;
using hone::test::at_every_isa;

namespace {

bool same_bits(float a, float b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

}  // namespace

TEST_CASE("f32 products of rows and of panels are right, and a number does not depend on what is made beside it") {
  at_every_isa([] {
    constexpr int64_t most_rows = 70, gap = 5;
    // 1024: rows of whole pages, for which fewer are read at a time.
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1, 1}, {7, 33}, {45, 64}, {130, 19}, {33, 1024 - gap}}) {
      CAPTURE(n);
      CAPTURE(k);
      const int64_t stride = k + gap;
      const auto a = normal_numbers(most_rows * stride, 1), b = normal_numbers(n * stride, 2);
      constexpr int64_t width = own::panel_outputs;
      std::vector<float> panels(static_cast<size_t>((n + width - 1) / width * width * k), NAN);
      for (int64_t j = 0; j < n; ++j)
        for (int64_t p = 0; p < k; ++p)
          panels[static_cast<size_t>((j / width * k + p) * width + j % width)] = b[static_cast<size_t>(j * stride + p)];
      const ConstView rows{b.data(), DType::f32, n, k, stride};
      std::vector<float> whole(static_cast<size_t>(most_rows * n));
      own::gemm_rows({a.data(), DType::f32, most_rows, k, stride}, rows, view(whole.data(), most_rows, n));
      for (int64_t i = 0; i < most_rows; ++i)
        for (int64_t j = 0; j < n; ++j) {
          double expected = 0, size = 0;
          for (int64_t p = 0; p < k; ++p) {
            const double term = static_cast<double>(a[static_cast<size_t>(i * stride + p)]) *
                                static_cast<double>(b[static_cast<size_t>(j * stride + p)]);
            expected += term;
            size += std::abs(term);
          }
          REQUIRE(std::abs(static_cast<double>(whole[static_cast<size_t>(i * n + j)]) - expected) < 1e-5 * (1 + size));
        }
      for (int64_t m = 1; m < most_rows; m = m < 14 ? m + 1 : m + 11) {
        CAPTURE(m);
        std::vector<float> some(static_cast<size_t>(m * (n + gap)), 7), other = some;
        const ConstView x{a.data() + stride, DType::f32, m, k, stride};  // from the second row on
        own::gemm_rows(x, rows, {some.data(), DType::f32, m, n, n + gap});
        own::gemm_panels(x, panels.data(), {other.data(), DType::f32, m, n, n + gap});
        for (int64_t i = 0; i < m; ++i)
          for (int64_t j = 0; j < n + gap; ++j) {
            const float expected = j < n ? whole[static_cast<size_t>((i + 1) * n + j)] : 7;
            REQUIRE(same_bits(some[static_cast<size_t>(i * (n + gap) + j)], expected));
            REQUIRE(same_bits(other[static_cast<size_t>(i * (n + gap) + j)], expected));
          }
      }
    }
  });
}
