#include "kernels/gemm/bf16.h"

#include <doctest/doctest.h>

#include <array>
#include <functional>
#include <vector>

#include "base/random.h"
#include "kernels/rows/elementwise.h"
#include "lib/kernels/numbers.h"
#include "support/isa.h"

using namespace hone;
using namespace hone::kernels;
using hone::kernels::test::widened;
using hone::test::at_every_isa;

namespace {

// Small whole numbers: every sum is exact in f32, so results must be equal.
std::vector<bf16> digits(int64_t count, uint64_t seed) {
  Random random(seed, "gemm_bf16");
  std::vector<bf16> v(static_cast<size_t>(count));
  for (bf16& x : v) x = to_bf16(static_cast<float>(static_cast<int>(random.next() % 7) - 3));
  return v;
}

void at_own_level(const std::function<void()>& f) {
  at_every_isa([&] {
    if (own::available()) f();
  });
}

}  // namespace

TEST_CASE("own products with panels: ragged tiles, an odd contraction, one longer than a block, wider results") {
  at_own_level([] {
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 64, 2}, {5, 70, 1}, {401, 65, 33}, {13, 130, 4101}}) {
      const auto a = digits(m * (k + 3), 1), w = digits(n * k, 2);
      const auto af = widened(a), wf = widened(w);
      std::vector<bf16> panels(static_cast<size_t>(panel_elements(n, k)));
      pack_panels(view(wf.data(), n, k), false, panels.data());
      std::vector<float> y(static_cast<size_t>(m * (n + 5)), 99.0f);
      std::vector<bf16> half(static_cast<size_t>(m * n));
      const ConstView left{a.data(), DType::bf16, m, k, k + 3};
      own::gemm_panels(left, panels.data(), n, k, {y.data(), DType::f32, m, n, n + 5});
      own::gemm_panels(left, panels.data(), n, k, view(half.data(), m, n));
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n + 5; ++j) {
          float expected = j < n ? 0.0f : 99.0f;
          for (int64_t p = 0; j < n && p < k; ++p)
            expected += af[static_cast<size_t>(i * (k + 3) + p)] * wf[static_cast<size_t>(j * k + p)];
          REQUIRE(y[static_cast<size_t>(i * (n + 5) + j)] == expected);
          if (j < n) REQUIRE(half[static_cast<size_t>(i * n + j)].bits == to_bf16(expected).bits);
        }
    }
  });
}

TEST_CASE("own gradients of weights: ragged panels, few and many, odd rows, more than a block, accumulated or not") {
  at_own_level([] {
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{64, 64, 2},
                                  {70, 5, 1},
                                  {65, 130, 33},
                                  {130, 200, 35},
                                  {66, 67, 2151},
                                  {0, 64, 2},
                                  {64, 0, 2},
                                  {64, 65, 0}}) {
      const auto a = digits(k * (m + 1), 3), b = digits(k * n, 4);
      const auto af = widened(a), bf = widened(b);
      for (const bool accumulate : {false, true}) {
        std::vector<float> c(static_cast<size_t>(m * n), 7.0f);
        own::gemm_gradient({a.data(), DType::bf16, k, m, m + 1}, view(b.data(), k, n), view(c.data(), m, n),
                           accumulate);
        for (int64_t i = 0; i < m; ++i)
          for (int64_t j = 0; j < n; ++j) {
            float expected = accumulate ? 7.0f : 0.0f;
            for (int64_t p = 0; p < k; ++p)
              expected += af[static_cast<size_t>(p * (m + 1) + i)] * bf[static_cast<size_t>(p * n + j)];
            REQUIRE(c[static_cast<size_t>(i * n + j)] == expected);
          }
      }
    }
  });
}
