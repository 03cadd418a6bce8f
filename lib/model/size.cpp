#include "model/size.h"

#include "model/transformer.h"

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
    counter.size.activations += 2 * dim + heads * static_cast<double>(config.block.head_dim) + always * hidden;
    if (layer.experts > 0) counter.size.routed += static_cast<double>(layer.top_k) * hidden;
    counter.size.residual += 2 * dim;
  }
  return counter.size;
}

double cache_bytes(const Config& config, const StateShape& shape) {
  const ShapesOnly shapes;
  double bytes = 0;
  for (const LayerBlueprint& layer : config.layers) bytes += Mixer::make(config.block, layer)->state_bytes(shape);
  return bytes;
}

}  // namespace hone
