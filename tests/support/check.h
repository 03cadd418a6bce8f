// Helpers of the unit tests: random tensors, comparisons, gradients by finite differences.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "autograd/autograd.h"
#include "base/random.h"
#include "support/isa.h"

namespace hone::test {

inline Tensor random_tensor(Shape shape, uint64_t seed, float scale = 1.0f) {
  Tensor t = Tensor::empty(std::move(shape));
  Random random(seed, "test");
  for (float& x : t.span<float>()) x = static_cast<float>(random.normal()) * scale;
  return t;
}

// Largest |a - b| over the largest |b| (at least `floor`).
inline double relative_error(const Tensor& a, const Tensor& b, double floor = 1e-30) {
  const Tensor x = a.to(DType::f32), y = b.to(DType::f32);
  REQUIRE(x.size() == y.size());
  double difference = 0, largest = floor;
  for (int64_t i = 0; i < x.size(); ++i) {
    const double u = static_cast<double>(x.data<float>()[i]), v = static_cast<double>(y.data<float>()[i]);
    if (!std::isfinite(u) || !std::isfinite(v)) return INFINITY;
    difference = std::max(difference, std::abs(u - v));
    largest = std::max(largest, std::abs(v));
  }
  return difference / largest;
}

// Compares gradients with central differences. `f` computes an output from the inputs; the function differentiated is
// the sum of the output's elements, each times a fixed random number. `numbers` are the arrays to vary: values of
// inputs or parameters, and `gradient(i)` reads the gradient of numbers[i] after a backward pass.
inline void check_gradients(const std::function<Var()>& f, const std::vector<Tensor>& numbers,
                            const std::function<Tensor(size_t)>& gradient, double tolerance, float step = 1e-2f) {
  Tensor weights;
  const auto value = [&] {
    const Tensor out = f().value();
    double sum = 0;
    for (int64_t i = 0; i < out.size(); ++i)
      sum += static_cast<double>(out.data<float>()[i]) * static_cast<double>(weights.data<float>()[i]);
    return sum;
  };
  {
    Tape tape;
    const Var out = f();
    weights = random_tensor(out.shape(), 99);
    tape.backward(out, weights.clone());
  }
  for (size_t n = 0; n < numbers.size(); ++n) {
    CAPTURE(n);
    const Tensor analytic = gradient(n);
    const Tensor numeric = Tensor::empty(numbers[n].shape());
    for (int64_t i = 0; i < numbers[n].size(); ++i) {
      float& x = numbers[n].data<float>()[i];
      const float kept = x;
      x = kept + step;
      const double above = value();
      x = kept - step;
      const double below = value();
      x = kept;
      numeric.data<float>()[i] = static_cast<float>((above - below) / (2.0 * static_cast<double>(step)));
    }
    CHECK(relative_error(analytic, numeric) < tolerance);
  }
}

}  // namespace hone::test
