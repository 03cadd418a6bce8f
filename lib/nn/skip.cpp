#include "nn/skip.h"

#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "base/rows.h"
#include "base/units.h"

namespace hone {
namespace {

// LayerSkip, section 4.1: exp(layer * ln 2 / (layers - 1)) - 1.
double by_exponential_depth(const SkipPlace& at) {
  return std::exp2(at.depth()) - 1;
}

// Huang et al., equation 4, whose layers count from 1: the first is passed by, too, if seldom.
double by_linear_depth(const SkipPlace& at) {
  return static_cast<double>(at.layer + 1) / static_cast<double>(at.layers);
}

double everywhere(const SkipPlace&) {
  return 1;
}

// LayerSkip's curriculum for training from scratch, section 4.1: the same exponential over the steps, too.
double by_depth_and_step(const SkipPlace& at) {
  return by_exponential_depth(at) * (std::exp2(at.progress()) - 1);
}

constexpr SkipRule rows[] = {
    {"exponential", "from none in the first layer, slowly at first", by_exponential_depth},
    {"linear", "evenly with depth", by_linear_depth},
    {"uniform", "the same in all layers", everywhere},
    {"growing", "exponential over layers, and over the steps from none at the first", by_depth_and_step},
};

const SkipRule& rule_named(const std::string& name) {
  return row_called(rows, name, "rule of which layers are passed by");
}

void require_probability(double most) {
  if (!(most >= 0 && most < 1))
    throw usage_error("a layer cannot be passed by with probability {}: at least 0 and below 1 is needed", most);
}

}  // namespace

std::span<const SkipRule> skip_rules() {
  return rows;
}

LayerDropout layer_dropout(const std::string& text) {
  const size_t colon = text.find(':');
  LayerDropout dropout{parse_fraction(text.substr(0, colon)), nullptr};
  require_probability(dropout.most);
  if (colon == std::string::npos) return dropout;
  const SkipRule& rule = rule_named(text.substr(colon + 1));
  if (&rule != rows) dropout.rule = &rule;
  return dropout;
}

std::string to_string(const LayerDropout& dropout) {
  return dropout.rule ? fmt::format("{}:{}", dropout.most, dropout.rule->name) : fmt::format("{}", dropout.most);
}

std::vector<float> skip_probabilities(const LayerDropout& dropout, int64_t layers, int64_t step, int64_t steps) {
  require_probability(dropout.most);
  std::vector<float> by_layer;
  const SkipRule& rule = dropout.rule ? *dropout.rule : rows[0];
  for (int64_t layer = 0; dropout.most > 0 && layer < layers; ++layer)
    by_layer.push_back(static_cast<float>(dropout.most * rule.part({layer, layers, step, steps})));
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
