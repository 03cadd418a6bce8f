#include "measure/divergence.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/random.h"
#include "kernels/parallel.h"

using namespace hone;
using doctest::Approx;

namespace {

// The definition, in double precision.
double reference(const std::vector<float>& a, const std::vector<float>& b) {
  double max_a = -INFINITY, max_b = -INFINITY, sum_a = 0, sum_b = 0, result = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    max_a = std::max<double>(max_a, a[i]);
    max_b = std::max<double>(max_b, b[i]);
  }
  for (size_t i = 0; i < a.size(); ++i) {
    sum_a += std::exp(a[i] - max_a);
    sum_b += std::exp(b[i] - max_b);
  }
  for (size_t i = 0; i < a.size(); ++i) {
    const double log_p = a[i] - max_a - std::log(sum_a), log_q = b[i] - max_b - std::log(sum_b);
    result += std::exp(log_p) * (log_p - log_q);
  }
  return result;
}

std::vector<float> logits(Random& random, size_t n, double scale) {
  std::vector<float> result(n);
  for (float& x : result) x = static_cast<float>(random.normal() * scale);
  return result;
}

}  // namespace

TEST_CASE("divergence equals its definition for all sizes and scales") {
  Random random(4, "divergence");
  for (const size_t n : {1, 2, 15, 16, 17, 256, 4096, 4097, 50257})
    for (const double scale : {0.1, 1.0, 10.0, 60.0}) {
      const auto a = logits(random, n, scale);
      auto b = a;
      for (float& x : b) x += static_cast<float>(random.normal() * scale * 0.1) + 3;
      CAPTURE(n);
      CAPTURE(scale);
      CHECK(divergence(a, b).kl == Approx(reference(a, b)).epsilon(2e-5).scale(1e-2));
    }
}

TEST_CASE("divergence of a small change is accurate, and of none it is exactly zero") {
  Random random(6, "small");
  const auto a = logits(random, 5000, 3);
  CHECK(divergence(a, a).kl == 0);
  CHECK(divergence(a, a).agree);
  auto b = a;
  for (float& x : b) x += static_cast<float>(random.normal() * 0.01);
  CHECK(divergence(a, b).kl == Approx(reference(a, b)).epsilon(1e-2));  // about 5e-5
}

TEST_CASE("divergence of certain and of hopeless predictions") {
  const std::vector<float> sure = {0, -500, -1000, -86, -88}, other = {-500, 0, -2, -100, 3},
                           negative = {-3, -4, -5, -6, -7};
  for (const auto& a : {sure, other, negative})
    for (const auto& b : {sure, other, negative})
      CHECK(divergence(a, b).kl == Approx(reference(a, b)).epsilon(1e-5).scale(1e-3));
}

TEST_CASE("agreement looks at the first of the largest logits") {
  const std::vector<float> a = {1, 5, 5, 0}, b = {0, 2, 1, 0}, c = {0, 1, 2, 0};
  CHECK(divergence(a, b).agree);
  CHECK(!divergence(a, c).agree);
}

TEST_CASE("impossible tokens and broken logits") {
  const float none = -std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> a = {1, 2, none, 3}, b = {1, 2, 4, 3}, c = {1, none, none, 3};
  CHECK(std::isfinite(divergence(a, b).kl));
  CHECK(divergence(a, a).kl == 0);
  CHECK(std::isinf(divergence(a, c).kl));
  CHECK(std::isfinite(divergence(c, a).kl));
  CHECK(std::isnan(divergence(a, std::vector<float>{1, nan, 0, 0}).kl));
  CHECK(std::isnan(divergence(std::vector<float>{nan, 1, 0, 0}, a).kl));
  CHECK(std::isnan(divergence(std::vector<float>{none, none, none, none}, a).kl));
  CHECK(std::isnan(divergence(a, std::vector<float>{0, -none, 0, 0}).kl));
}

TEST_CASE("rows add up to the same on any number of threads") {
  Random random(8, "rows");
  const int64_t vocab = 300, rows = 500;
  const auto a = logits(random, vocab * rows, 2), b = logits(random, vocab * rows, 2);
  const int before = kernels::threads();
  kernels::set_threads(1);
  const WindowDivergence one = divergence_of_rows(a, b, vocab);
  kernels::set_threads(3);
  const WindowDivergence three = divergence_of_rows(a, b, vocab);
  kernels::set_threads(before);
  CHECK(one.kl == three.kl);
  CHECK(one.agree == three.agree);
  CHECK(one.tokens == rows);
  double sum = 0;
  for (int64_t r = 0; r < rows; ++r)
    sum += reference({a.begin() + r * vocab, a.begin() + (r + 1) * vocab},
                     {b.begin() + r * vocab, b.begin() + (r + 1) * vocab});
  CHECK(one.kl == Approx(sum).epsilon(1e-5));
}
