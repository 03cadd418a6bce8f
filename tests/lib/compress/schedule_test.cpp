#include "compress/schedule.h"

#include <doctest/doctest.h>

using hone::cubic_sparsity;

TEST_CASE("the cubic schedule starts at the initial sparsity, follows the formula, and ends exactly at the final one") {
  CHECK(cubic_sparsity(0.6, 0, 100, 300) == 0.0);
  CHECK(cubic_sparsity(0.6, 100, 100, 300) == 0.0);
  CHECK(cubic_sparsity(0.6, 200, 100, 300) == doctest::Approx(0.6 * (1 - 0.125)));
  CHECK(cubic_sparsity(0.6, 300, 100, 300) == 0.6);
  CHECK(cubic_sparsity(0.6, 1000, 100, 300) == 0.6);
  CHECK(cubic_sparsity(0.8, 150, 100, 300, 0.4) == doctest::Approx(0.8 - 0.4 * 0.75 * 0.75 * 0.75));
  CHECK(cubic_sparsity(0.8, 100, 100, 300, 0.4) == 0.4);
}

TEST_CASE("it never falls, and a schedule without length is a jump") {
  double before = 0;
  for (int step = 0; step <= 400; ++step) {
    const double now = cubic_sparsity(0.75, step, 37, 311);
    CHECK(now >= before);
    before = now;
  }
  CHECK(cubic_sparsity(0.5, 9, 10, 10) == 0.0);
  CHECK(cubic_sparsity(0.5, 10, 10, 10) == 0.5);
  CHECK(cubic_sparsity(0.5, 12, 10, 5) == 0.5);
}
