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
    if (!own::multiplies_f32()) return;
    constexpr int64_t most_rows = 70, gap = 5;
    // 1024: rows of whole pages, for which fewer are read at a time. 2100: more than one block of the contraction.
    for (const auto& [n, k] :
         {std::pair<int64_t, int64_t>{1, 1}, {7, 33}, {45, 64}, {130, 19}, {33, 1024 - gap}, {9, 2100}}) {
      CAPTURE(n);
      CAPTURE(k);
      const int64_t stride = k + gap;
      const auto a = normal_numbers(most_rows * stride, 1), b = normal_numbers(n * stride, 2);
      // Outputs that there are not are NaN, in their terms; those that there are have zeros behind.
      constexpr int64_t width = own::panel_outputs, terms = own::panel_terms;
      const int64_t groups = (k + terms - 1) / terms;
      std::vector<float> panels(static_cast<size_t>((n + width - 1) / width * width * groups * terms));
      for (int64_t j = 0; j < (n + width - 1) / width * width; ++j)
        for (int64_t p = 0; p < k; ++p)
          panels[static_cast<size_t>(((j / width * groups + p / terms) * width + j % width) * terms + p % terms)] =
              j < n ? b[static_cast<size_t>(j * stride + p)] : NAN;
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

TEST_CASE("f32 products of one row sum eight partial sums, the terms i, i + 8 … each, in pairs") {
  at_every_isa([] {
    if (!own::multiplies_f32()) return;
    // Whole numbers of these sizes lose their ones in any order that adds the large terms to them first.
    constexpr int64_t k = 19;
    std::vector<float> a(k, 1), b(k, 1);
    b[0] = 0x1p30f;
    b[16] = -0x1p30f;  // the same partial sum, which loses the term 8 between them
    float c = 0;
    own::gemm_rows(view(a.data(), 1, k), view(b.data(), 1, k), view(&c, 1, 1));
    CHECK(c == 16);
  });
}

TEST_CASE("columns turned are the panels of f32 products, with zeros behind their terms") {
  at_every_isa([] {
    if (!own::multiplies_f32()) return;
    for (const int64_t k : {1, 8, 21}) {
      CAPTURE(k);
      constexpr int64_t outputs = own::column_outputs, width = own::panel_outputs, terms = own::panel_terms;
      const int64_t groups = (k + terms - 1) / terms;
      std::vector<float> columns(static_cast<size_t>(groups * terms * outputs)), panels(columns.size(), NAN);
      for (int64_t i = 0; i < k * outputs; ++i) columns[static_cast<size_t>(i)] = static_cast<float>(i + 1);
      own::turn_to_panels(columns.data(), k, panels.data());
      for (int64_t p = 0; p < groups * terms; ++p)
        for (int64_t j = 0; j < outputs; ++j)
          REQUIRE(
              panels[static_cast<size_t>(((j / width * groups + p / terms) * width + j % width) * terms + p % terms)] ==
              columns[static_cast<size_t>(p * outputs + j)]);
    }
  });
}
