#include "kernels/packed/scale_search.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/random.h"
#include "support/isa.h"

using namespace hone;

TEST_CASE("errors of candidate scales equal the plain formula at every instruction set") {
  Random random(5, "magnitudes");
  test::at_every_isa([&] {
    const kernels::ScaleSearch loops = kernels::scale_search();
    for (int64_t n : {1, 7, 32, 100}) {
      std::vector<float> magnitudes(static_cast<size_t>(n)), limits(magnitudes), moments(magnitudes);
      for (float& x : magnitudes) x = static_cast<float>(std::fabs(random.normal()));
      for (float& x : limits) x = random.below(2) ? 7 : 8;
      for (float& x : moments) x = static_cast<float>(random.uniform());
      float scales[kernels::kScaleCandidates], errors[kernels::kScaleCandidates];
      for (float& s : scales) s = 0.02f + 0.3f * static_cast<float>(random.uniform());
      loops.errors(magnitudes.data(), limits.data(), moments.data(), n, scales, errors);
      for (int i = 0; i < kernels::kScaleCandidates; ++i) {
        double expected = 0;
        for (size_t j = 0; j < magnitudes.size(); ++j) {
          const double a = static_cast<double>(magnitudes[j]), s = static_cast<double>(scales[i]);
          const double q = std::min(std::floor(a / s + 0.5), static_cast<double>(limits[j]));
          expected += static_cast<double>(moments[j]) * (a - s * q) * (a - s * q);
        }
        CHECK(static_cast<double>(errors[i]) == doctest::Approx(expected).epsilon(1e-4).scale(1e-3));
      }
    }
  });
}

TEST_CASE(
    "rounding goes to the nearest integer, ties to even, clamped, for scales of either sign at every instruction set") {
  Random random(6, "weights");
  test::at_every_isa([&] {
    const kernels::ScaleSearch loops = kernels::scale_search();
    std::vector<float> w{0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 100, -100, 7.4f, 7.6f, -8.4f, 0, -0.0f, 1e30f, -1e30f};
    for (int i = 0; i < 50; ++i) w.push_back(static_cast<float>(4 * random.normal()));
    std::vector<int8_t> integers(w.size());
    for (float scale : {1.0f, -1.0f, 0.5f, -2.0f}) {
      loops.round(w.data(), static_cast<int64_t>(w.size()), scale, -8, 7, integers.data());
      for (size_t j = 0; j < w.size(); ++j)
        CHECK(static_cast<double>(integers[j]) ==
              std::nearbyint(std::clamp(static_cast<double>(w[j] / scale), -8.0, 7.0)));
    }
    loops.round(w.data(), static_cast<int64_t>(w.size()), 0.0f, -8, 7, integers.data());
    for (int8_t q : integers) CHECK(q == 0);
  });
}
