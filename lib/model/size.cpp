#include "model/size.h"

#include "base/memory_limit.h"
#include "base/units.h"
#include "model/transformer.h"
#include "nn/attention/pattern.h"

namespace hone {
namespace {

struct Counter : Reader {
  ShapeSize size;
  void weight(const ParameterInfo& info, const Weight& weight) override {
    const double elements = static_cast<double>(weight.rows()) * static_cast<double>(weight.cols());
    size.parameters += elements;
    if (is_linear(info.role)) size.linear += elements;
  }
  void parameter(const ParameterInfo&, const Parameter& parameter) override {
    size.parameters += static_cast<double>(parameter.value.size());
  }
};

}  // namespace

ShapeSize size_of_shape(const Config& config) {
  const ShapesOnly shapes;
  const Transformer model(config);
  Counter counter;
  model.visit(counter);
  const double dim = static_cast<double>(config.block.dim);
  for (const LayerBlueprint& layer : config.layers) {
    const double heads = static_cast<double>(2 * layer.heads + 2 * layer.kv_heads);  // queries, output; keys, values
    const double always = static_cast<double>(layer.experts > 0 ? layer.shared_experts : 1);
    const double wide = config.block.activation == ActivationKind::swiglu ? 3 : 2;  // up (and gate), and their product
    const double hidden = wide * static_cast<double>(layer.ffn);
    const double branches = static_cast<double>(layer.mixes()) + static_cast<double>(layer.feeds());
    counter.size.activations += branches * dim + heads * static_cast<double>(config.block.head_dim) + always * hidden;
    if (layer.experts > 0) counter.size.routed += static_cast<double>(layer.top_k) * hidden;
    counter.size.residual += branches * dim;
  }
  return counter.size;
}

double cache_bytes(const Config& config, const StateShape& shape) {
  double bytes = 0;
  for (const LayerBlueprint& layer : config.layers)
    bytes +=
        LayerCache::bytes_of(attention_pattern(layer.attention)->need(), layer.kv_heads, config.block.head_dim, shape);
  return bytes;
}

void require_cache_memory(const Config& config, const StateShape& shape) {
  require_memory(cache_bytes(config, shape),
                 fmt::format("the key/value cache of {} tokens",
                             format_count(static_cast<double>(shape.sequences) * static_cast<double>(shape.capacity))),
                 "ask for fewer tokens or sequences");
}

}  // namespace hone
