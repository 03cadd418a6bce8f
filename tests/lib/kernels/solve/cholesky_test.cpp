#include "kernels/solve/cholesky.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "lib/kernels/numbers.h"
#include "support/isa.h"

using namespace hone;
using namespace hone::kernels;
using namespace hone::kernels::test;
using hone::test::at_every_isa;

namespace {

// X^T X / k + I of numbers that are exact: symmetric, and far from singular.
std::vector<float> positive(int64_t n, int64_t stride) {
  const int64_t k = n + 3;
  const std::vector<float> x = exact_numbers(k * n, 5);
  std::vector<float> a(static_cast<size_t>(n * stride), -7.0f);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = i == j ? 1 : 0;
      for (int64_t r = 0; r < k; ++r)
        sum += static_cast<double>(x[static_cast<size_t>(r * n + i)]) *
               static_cast<double>(x[static_cast<size_t>(r * n + j)]) / static_cast<double>(k);
      a[static_cast<size_t>(i * stride + j)] = static_cast<float>(sum);
    }
  return a;
}

// Largest |(x y)_ij - expected(i, j)| over the first n rows and columns; y transposed where asked.
template <class F>
double product_error(const std::vector<float>& x, const std::vector<float>& y, bool transposed, int64_t n,
                     int64_t stride, F&& expected) {
  double worst = 0;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < n; ++k)
        sum += static_cast<double>(x[static_cast<size_t>(i * stride + k)]) *
               static_cast<double>(y[static_cast<size_t>(transposed ? j * stride + k : k * stride + j)]);
      worst = std::max(worst, std::abs(sum - expected(i, j)));
    }
  return worst;
}

}  // namespace

TEST_CASE("Cholesky: L L^T is the matrix, its inverse and the matrix's own are inverses; gaps stay") {
  at_every_isa([] {
    for (const int64_t n : {1, 7, 64, 65, 200}) {
      CAPTURE(n);
      const int64_t stride = n + 3;
      const std::vector<float> a = positive(n, stride);
      double largest = 1;
      for (const float x : a) largest = std::max(largest, static_cast<double>(std::abs(x)));
      const auto seen = [&](std::vector<float>& m) { return View{m.data(), DType::f32, n, n, stride}; };
      const auto one = [](int64_t i, int64_t j) { return i == j ? 1.0 : 0.0; };

      std::vector<float> l = a;
      REQUIRE(cholesky(seen(l)));
      CHECK(product_error(l, l, true, n, stride, [&](int64_t i, int64_t j) {
              return static_cast<double>(a[static_cast<size_t>(i * stride + j)]);
            }) < 1e-5 * largest);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = i + 1; j < stride; ++j)
          CHECK(l[static_cast<size_t>(i * stride + j)] == (j < n ? 0.0f : -7.0f));

      std::vector<float> inverse = l;
      invert_lower(seen(inverse));
      CHECK(product_error(inverse, l, false, n, stride, one) < 1e-4);
      std::vector<float> whole = a;
      REQUIRE(invert_positive(seen(whole)));
      CHECK(product_error(whole, a, false, n, stride, one) < 1e-4);
    }
  });
}

TEST_CASE("Cholesky says where a matrix is not positive definite") {
  for (const int64_t at : {0, 3, 100}) {
    std::vector<float> a = positive(128, 128);
    a[static_cast<size_t>(at * 129)] = -1;
    CHECK_FALSE(cholesky(view(a.data(), 128, 128)));
    a = positive(128, 128);
    a[static_cast<size_t>(at * 129)] = NAN;
    CHECK_FALSE(invert_positive(view(a.data(), 128, 128)));
  }
}
