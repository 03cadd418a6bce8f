#include "base/random.h"

#include <doctest/doctest.h>

using hone::Random;

TEST_CASE("streams with different names or seeds differ, and a saved state continues the stream") {
  Random a(1, "shuffle"), b(1, "dropout"), c(2, "shuffle");
  const uint64_t first = a.next();
  CHECK(first != b.next());
  CHECK(first != c.next());
  Random copy(a.state());
  for (int i = 0; i < 10; ++i) CHECK(a.next() == copy.next());
}

TEST_CASE("normal() has mean 0 and variance 1") {
  Random r(7, "normal");
  double sum = 0, squares = 0;
  const int n = 200000;
  for (int i = 0; i < n; ++i) {
    const double x = r.normal();
    sum += x;
    squares += x * x;
  }
  CHECK(sum / n == doctest::Approx(0).epsilon(0.01).scale(1));
  CHECK(squares / n == doctest::Approx(1).epsilon(0.02));
}

TEST_CASE("below(n) stays below n and reaches every value") {
  Random r(3, "below");
  int seen[7] = {};
  for (int i = 0; i < 7000; ++i) ++seen[r.below(7)];
  for (int count : seen) CHECK(count > 800);
}
