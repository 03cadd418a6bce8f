#include "nn/rope.h"

#include <cmath>
#include <numbers>

namespace hone {
namespace {

double scaled(double frequency, const RopeScaling& s) {
  if (s.kind == RopeScaling::Kind::none) return frequency;
  if (s.kind == RopeScaling::Kind::linear) return frequency / s.factor;
  const double waves = static_cast<double>(s.context) * frequency / (2 * std::numbers::pi);  // within that context
  if (waves < s.low) return frequency / s.factor;
  if (waves > s.high) return frequency;
  const double smooth = (waves - s.low) / (s.high - s.low);
  return (1 - smooth) * frequency / s.factor + smooth * frequency;
}

}  // namespace

std::vector<double> rope_frequencies(const BlockBlueprint& b) {
  std::vector<double> frequencies(static_cast<size_t>(b.head_dim / 2), 0.0);
  const int64_t turning = b.rotary_dim > 0 ? b.rotary_dim : b.head_dim;
  for (int64_t c = 0; c < turning / 2; ++c)
    frequencies[static_cast<size_t>(c)] =
        scaled(std::pow(b.rope_theta, -2.0 * static_cast<double>(c) / static_cast<double>(turning)), b.rope_scaling);
  return frequencies;
}

}  // namespace hone
