#include "nn/skip.h"

#include <cmath>

#include "base/error.h"
#include "base/random.h"

namespace hone {

std::vector<float> skip_by_depth(double most, int64_t layers) {
  if (!(most >= 0 && most < 1))
    throw usage_error("a layer cannot be passed by with probability {}: at least 0 and below 1 is needed", most);
  std::vector<float> by_layer;
  for (int64_t layer = 0; most > 0 && layer < layers; ++layer) {
    const double part = layers > 1 ? static_cast<double>(layer) / static_cast<double>(layers - 1) : 1;
    by_layer.push_back(static_cast<float>(most * (std::exp2(part) - 1)));
  }
  return by_layer;
}

std::optional<Remaining> remaining(const Call& call, int64_t layer) {
  if (call.skip.empty()) return std::nullopt;
  const float probability = call.skip[static_cast<size_t>(layer)];
  if (probability <= 0) return std::nullopt;
  const uint64_t noise = call.noise.at(layer, Site::skip);
  Remaining some{{}, call, 1 / (1 - probability)};
  std::vector<Span> spans;
  int64_t row = 0;
  for (size_t i = 0; i < call.batch.spans().size(); ++i) {
    const Span& span = call.batch.spans()[i];
    const double drawn = static_cast<double>(mix64(noise ^ mix64(i)) >> 11) * 0x1p-53;  // uniform in [0, 1)
    if (drawn >= static_cast<double>(probability)) {
      spans.push_back(span);
      for (int64_t t = row; t < row + span.count; ++t) some.rows.push_back(static_cast<int32_t>(t));
    }
    row += span.count;
  }
  some.call.batch = Batch(std::move(spans), call.batch, some.rows);
  return some;
}

}  // namespace hone
