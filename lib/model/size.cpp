#include "model/size.h"

#include "model/transformer.h"

namespace hone {
namespace {

struct ShapeCounter : Reader {
  ShapeSize size;
  void weight(const ParameterInfo& info, const Weight& weight) override {
    if (!info.part.here()) return;
    const double elements = static_cast<double>(weight.rows()) * static_cast<double>(weight.cols());
    size.parameters += elements;
    if (is_linear(info.role)) size.linear += elements;
  }
  void parameter(const ParameterInfo& info, const Parameter& parameter) override {
    if (info.part.here()) size.parameters += static_cast<double>(parameter.value.size());
  }
};

}  // namespace

ShapeSize size_of_shape(const Config& config, const ModelRanks& ranks) {
  const ShapesOnly shapes;
  const Transformer model(config, ranks);
  ShapeCounter counter;
  model.visit(counter);
  return counter.size;
}

double cache_bytes(const Config& config, const StateShape& shape) {
  const ShapesOnly shapes;
  double bytes = 0;
  for (const LayerBlueprint& layer : config.layers) bytes += Block::make(config.block, layer).state_bytes(shape);
  return bytes;
}

}  // namespace hone
