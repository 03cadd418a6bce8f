#include "kernels/packed/scale_search.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/random.h"
#include "kernels/packed/nearest.h"
#include "support/isa.h"

using namespace hone;

constexpr int64_t candidates = 80;  // no multiple of what any set takes at once

TEST_CASE("errors of candidate scales equal the plain formula at every instruction set") {
  Random random(5, "magnitudes");
  hone::test::at_every_isa([&] {
    const kernels::ScaleSearch loops = kernels::scale_search();
    for (int64_t n : {1, 7, 32, 100}) {
      std::vector<float> magnitudes(static_cast<size_t>(n)), limits(magnitudes), moments(magnitudes);
      for (float& x : magnitudes) x = static_cast<float>(std::fabs(random.normal()));
      for (float& x : limits) x = random.below(2) ? 7 : 8;
      for (float& x : moments) x = static_cast<float>(random.uniform());
      float scales[candidates], errors[candidates];
      for (float& s : scales) s = 0.02f + 0.3f * static_cast<float>(random.uniform());
      loops.errors(magnitudes.data(), limits.data(), moments.data(), n, scales, candidates, errors);
      for (int i = 0; i < candidates; ++i) {
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
  hone::test::at_every_isa([&] {
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

namespace {

// 0, 10, 20 and 127 on one side; 0 and 12 on the other.
const kernels::ValueSteps steps[2] = {{3, {5, 15, 73.5f}, {10, 10, 107}}, {1, {6}, {12}}};

double stepped(double quotient) {
  const kernels::ValueSteps& side = steps[quotient < 0];
  double q = 0;
  for (int k = 0; k < side.count; ++k)
    if (std::fabs(quotient) > static_cast<double>(side.middles[k])) q += static_cast<double>(side.rises[k]);
  return quotient < 0 ? -q : q;
}

}  // namespace

TEST_CASE("errors and rounding where values are not neighbours, at every instruction set") {
  Random random(7, "steps");
  hone::test::at_every_isa([&] {
    const kernels::ScaleSearch loops = kernels::scale_search();
    for (int64_t n : {1, 7, 32, 100}) {
      std::vector<float> magnitudes(static_cast<size_t>(n)), moments(magnitudes), weights(magnitudes);
      std::vector<uint8_t> sides(magnitudes.size());
      for (float& x : moments) x = static_cast<float>(random.uniform());
      for (size_t j = 0; j < weights.size(); ++j) {
        weights[j] = static_cast<float>(random.normal());
        magnitudes[j] = std::fabs(weights[j]);
        sides[j] = weights[j] < 0;
      }
      float scales[candidates], errors[candidates];
      for (float& s : scales) s = 0.002f + 0.03f * static_cast<float>(random.uniform());
      loops.step_errors(magnitudes.data(), sides.data(), steps, moments.data(), n, scales, candidates, errors);
      for (int i = 0; i < candidates; ++i) {
        double expected = 0;
        for (size_t j = 0; j < weights.size(); ++j) {
          const double s = static_cast<double>(scales[i]), w = static_cast<double>(weights[j]);
          const double difference = w - s * stepped(w / s);
          expected += static_cast<double>(moments[j]) * difference * difference;
        }
        CHECK(static_cast<double>(errors[i]) == doctest::Approx(expected).epsilon(1e-4).scale(1e-3));
      }
      std::vector<int8_t> integers(weights.size());
      for (float scale : {0.01f, -0.02f, 3.0f, 0.0f}) {
        loops.round_to_steps(weights.data(), n, scale, steps, integers.data());
        for (size_t j = 0; j < weights.size(); ++j)
          CHECK(integers[j] == (scale == 0.0f ? 0.0 : stepped(static_cast<double>(weights[j] / scale))));
      }
    }
  });
}

TEST_CASE("errors and rounding of floating-point numbers, at every instruction set") {
  const kernels::PackedElement fp8 = kernels::element_named("fp8");
  const kernels::ElementInfo& info = kernels::info_of(fp8);
  const kernels::ElementNumbers numbers(fp8);
  const kernels::FloatSteps steps = {info.mantissa, info.least_normal(), 448, info.bias << info.mantissa};
  Random random(8, "floats");
  std::vector<float> weights(100), magnitudes(weights), moments(weights);
  for (float& x : moments) x = static_cast<float>(random.uniform());
  for (size_t j = 0; j < weights.size(); ++j) {
    weights[j] = static_cast<float>(random.normal() * std::exp(4 * random.normal()));  // of every exponent
    magnitudes[j] = std::fabs(weights[j]);
  }
  const auto n = static_cast<int64_t>(weights.size());
  hone::test::at_every_isa([&] {
    const kernels::ScaleSearch loops = kernels::scale_search();
    float scales[candidates], errors[candidates];
    for (float& s : scales) s = 0.002f + 0.03f * static_cast<float>(random.uniform());
    loops.float_errors(magnitudes.data(), moments.data(), n, steps, scales, candidates, errors);
    for (int i = 0; i < candidates; ++i) {
      double expected = 0;
      for (size_t j = 0; j < weights.size(); ++j) {
        const float nearest = numbers[numbers.nearest(magnitudes[j] * (1.0f / scales[i]))];
        const double difference =
            static_cast<double>(magnitudes[j]) - static_cast<double>(scales[i]) * static_cast<double>(nearest);
        expected += static_cast<double>(moments[j]) * difference * difference;
      }
      CHECK(static_cast<double>(errors[i]) == doctest::Approx(expected).epsilon(1e-4).scale(1e-3));
    }
    std::vector<int8_t> integers(weights.size());
    for (float scale : {0.01f, -0.02f, 3.0f, 0.0f}) {
      loops.round_to_floats(weights.data(), n, scale, steps, integers.data());
      for (size_t j = 0; j < weights.size(); ++j)
        CHECK(integers[j] == (scale == 0.0f ? 0 : numbers.nearest(weights[j] / scale)));
    }
    // Halves between two numbers, which go to the even one.
    std::vector<float> middles;
    for (int q = 0; q < 126; ++q) middles.push_back((numbers[q] + numbers[q + 1]) / 2);
    integers.resize(126);
    loops.round_to_floats(middles.data(), 126, 1.0f, steps, integers.data());
    for (int q = 0; q < 126; ++q) CHECK(integers[static_cast<size_t>(q)] == q + q % 2);
  });
}
