// oneDNN alone, at this processor's highest instruction set, which it keeps from its first product on: a process of its
// own (tests/CMakeLists.txt), whose environment asks for f32 products in bf16.
#include "kernels/gemm/onednn.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "base/cpu.h"
#include "kernels/rows/elementwise.h"
#include "lib/kernels/numbers.h"

using namespace hone;
using namespace hone::kernels;
using namespace hone::kernels::test;

namespace {

// The largest difference of c [m, n] from a [m, k] times b [n, k] transposed, as a part of what rounding to f32 may do.
double excess(const std::vector<float>& a, const std::vector<float>& b, const std::vector<float>& c, int64_t m,
              int64_t n, int64_t k) {
  double worst = 0;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0, size = 0;
      for (int64_t p = 0; p < k; ++p) {
        const double term = static_cast<double>(a[static_cast<size_t>(i * k + p)]) *
                            static_cast<double>(b[static_cast<size_t>(j * k + p)]);
        sum += term;
        size += std::abs(term);
      }
      worst = std::max(worst, std::abs(static_cast<double>(c[static_cast<size_t>(i * n + j)]) - sum) / (size * 6e-8));
    }
  return worst;
}

constexpr std::array<std::array<int64_t, 3>, 4> sizes = {{{1, 64, 32}, {17, 64, 33}, {40, 130, 96}, {130, 256, 512}}};

}  // namespace

TEST_CASE("oneDNN multiplies f32 as f32, whatever the environment says" * doctest::skip()) {
  if (isa() < Isa::avx2) return;
  for (const auto& [m, n, k] : sizes) {
    const auto a = normal_numbers(m * k, 1), b = normal_numbers(n * k, 2);
    std::vector<float> c(static_cast<size_t>(m * n)), again(c.size());
    REQUIRE(onednn::gemm(view(a.data(), m, k), false, view(b.data(), n, k), true, view(c.data(), m, n), false));
    CHECK(excess(a, b, c, m, n, k) < 16);
    REQUIRE(onednn::gemm(view(a.data(), m, k), false, view(b.data(), n, k), true, view(again.data(), m, n), false));
    CHECK(c == again);
  }
}

TEST_CASE("oneDNN takes our panels, and bf16 rows, of any size, and sums in f32" * doctest::skip()) {
  if (isa() < Isa::avx512_bf16) return;
  for (const auto& [m, n, k] : sizes) {
    const auto a = exact_numbers(m * k, 3), b = exact_numbers(n * k, 4);
    const auto ah = rounded(a), bh = rounded(b);
    std::vector<bf16> panels(static_cast<size_t>(panel_elements(n, k)));
    pack_panels(view(b.data(), n, k), false, panels.data());
    std::vector<float> c(static_cast<size_t>(m * n)), of_panels(c.size());
    REQUIRE(onednn::gemm(view(ah.data(), m, k), false, view(bh.data(), n, k), true, view(c.data(), m, n), false));
    CHECK(excess(a, b, c, m, n, k) < 16);
    REQUIRE(onednn::gemm_panels(view(ah.data(), m, k), panels.data(), n, k, view(of_panels.data(), m, n)));
    CHECK(excess(a, b, of_panels, m, n, k) < 16);
  }
}

// As a router makes them: rows of an expert, of which its gradients are sums.
TEST_CASE("oneDNN compiles few products, whatever number of rows there are" * doctest::skip()) {
  if (isa() < Isa::avx2) return;
  constexpr int64_t most = 700, n = 48, k = 32;
  const auto a = normal_numbers(most * k, 5), b = normal_numbers(n * k, 6), d = normal_numbers(most * n, 7);
  const int64_t before = onednn::compiled();
  for (int64_t m = 1; m <= most; m += m < 80 ? 1 : 13) {
    CAPTURE(m);
    std::vector<float> c(static_cast<size_t>(m * n)), twice(static_cast<size_t>(m * (n + 3)), 1.0f);
    const ConstView rows = view(a.data(), m, k), weights = view(b.data(), n, k);
    REQUIRE(onednn::gemm(rows, false, weights, true, view(c.data(), m, n), false));
    CHECK(excess(a, b, c, m, n, k) < 16);
    const View wide = {twice.data(), DType::f32, m, n, n + 3};
    for (int times = 0; times < 2; ++times) REQUIRE(onednn::gemm(rows, false, weights, true, wide, true));
    double off = 0;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j)
        off = std::max(off, std::abs(wide.row<float>(i)[j] - 1.0 - 2.0 * c[static_cast<size_t>(i * n + j)]));
      for (int64_t j = n; j < n + 3; ++j) CHECK(wide.row<float>(i)[j] == 1.0f);
    }
    CHECK(off < 1e-4);

    std::vector<float> sums(static_cast<size_t>(n * k), 2.0f);
    REQUIRE(onednn::gemm(view(d.data(), m, n), true, rows, false, view(sums.data(), n, k), true));
    off = 0;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < k; ++j) {
        double sum = 2;
        for (int64_t p = 0; p < m; ++p)
          sum += static_cast<double>(d[static_cast<size_t>(p * n + i)]) * static_cast<double>(rows.row<float>(p)[j]);
        off = std::max(off, std::abs(sum - static_cast<double>(sums[static_cast<size_t>(i * k + j)])));
      }
    CHECK(off < 1e-3);
  }
  // Three kinds of products: numbers below 16 and at most four an octave above, whose rests begin at 4.
  CHECK(onednn::compiled() - before <= 3 * (15 + 4 * 6));
}
