#include "kernels/gemm/gemm.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <vector>

#include "kernels/rows/elementwise.h"
#include "lib/kernels/numbers.h"
#include "support/isa.h"

using namespace hone;
using namespace hone::kernels;
using namespace hone::kernels::test;
using hone::test::at_every_isa;

TEST_CASE(
    "products of every orientation, accumulated or not, of rows with gaps or without, into rows of a wider result") {
  at_every_isa([] {
    for (const auto& [m, n, k, gap] : {std::array<int64_t, 4>{1, 5, 3, 0},
                                       {7, 70, 33, 0},
                                       {64, 130, 96, 0},
                                       {7, 70, 33, 3},
                                       {64, 130, 96, 16},
                                       {3, 4150, 9, 0},  // wide: in pieces
                                       {2, 2100, 5, 3}}) {
      const auto a = exact_numbers((m + gap) * (k + gap), 1), b = exact_numbers((n + gap) * (k + gap), 2),
                 start = exact_numbers(m * (n + 9), 3);
      for (const bool ta : {false, true})
        for (const bool tb : {false, true})
          for (const bool accumulate : {false, true})
            for (const bool half : {false, true}) {
              const auto ah = rounded(a), bh = rounded(b);
              const int64_t ar = ta ? k : m, ac = ta ? m : k, br = tb ? n : k, bc = tb ? k : n;
              const int64_t as = ac + gap, bs = bc + gap;
              std::vector<float> c = start;
              const View out{c.data() + 4, DType::f32, m, n, n + 9};
              if (half)
                gemm({ah.data(), DType::bf16, ar, ac, as}, ta, {bh.data(), DType::bf16, br, bc, bs}, tb, out,
                     accumulate);
              else
                gemm({a.data(), DType::f32, ar, ac, as}, ta, {b.data(), DType::f32, br, bc, bs}, tb, out, accumulate);
              for (int64_t i = 0; i < m; ++i)
                for (int64_t j = 0; j < n + 9; ++j) {
                  const size_t at = static_cast<size_t>(i * (n + 9) + j);
                  double expected = static_cast<double>(start[at]);
                  if (j >= 4 && j < n + 4) {
                    if (!accumulate) expected = 0;
                    for (int64_t p = 0; p < k; ++p)
                      expected += static_cast<double>(a[static_cast<size_t>(ta ? p * as + i : i * as + p)]) *
                                  static_cast<double>(b[static_cast<size_t>(tb ? (j - 4) * bs + p : p * bs + j - 4)]);
                  }
                  REQUIRE(std::abs(static_cast<double>(c[at]) - expected) <
                          1e-4 * (1 + std::sqrt(static_cast<double>(k))));
                }
            }
    }
  });
}

TEST_CASE("panels hold the matrix and its transpose, padded, and multiply like it") {
  at_every_isa([] {
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{3, 5, 7}, {40, 130, 96}, {17, 64, 33}}) {
      const auto x = exact_numbers(m * k, 4), w = exact_numbers(n * k, 5), dy = exact_numbers(m * n, 6);
      const auto xh = rounded(x), dyh = rounded(dy);
      std::vector<bf16> forward(static_cast<size_t>(panel_elements(n, k))),
          backward(static_cast<size_t>(panel_elements(k, n)));
      pack_panels(view(w.data(), n, k), false, forward.data());
      pack_panels(view(w.data(), n, k), true, backward.data());
      std::vector<float> y(static_cast<size_t>(m * n)), dx(static_cast<size_t>(m * k));
      gemm_panels(view(xh.data(), m, k), forward.data(), n, k, view(y.data(), m, n));
      gemm_panels(view(dyh.data(), m, n), backward.data(), k, n, view(dx.data(), m, k));
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          double expected = 0;
          for (int64_t p = 0; p < k; ++p)
            expected += static_cast<double>(x[static_cast<size_t>(i * k + p)]) *
                        static_cast<double>(w[static_cast<size_t>(j * k + p)]);
          REQUIRE(std::abs(static_cast<double>(y[static_cast<size_t>(i * n + j)]) - expected) < 1e-3);
        }
        for (int64_t p = 0; p < k; ++p) {
          double expected = 0;
          for (int64_t j = 0; j < n; ++j)
            expected += static_cast<double>(dy[static_cast<size_t>(i * n + j)]) *
                        static_cast<double>(w[static_cast<size_t>(j * k + p)]);
          REQUIRE(std::abs(static_cast<double>(dx[static_cast<size_t>(i * k + p)]) - expected) < 1e-3);
        }
      }
    }
  });
}
