#include "nn/encoders/layers.h"

#include <fmt/format.h>

#include <algorithm>

#include "nn/block.h"

namespace hone {
namespace {

class LayersOfEncoder : public EncoderBody {
 public:
  LayersOfEncoder(const BlockBlueprint& blueprint, int64_t layers) : norm_(Norm::make(blueprint)) {
    const int64_t heads = std::max<int64_t>(1, blueprint.dim / blueprint.head_dim);
    LayerBlueprint layer;
    layer.heads = layer.kv_heads = heads;
    layer.ffn = 4 * blueprint.dim;
    layers_.assign(static_cast<size_t>(layers), layer);
    for (const LayerBlueprint& one : layers_) blocks_.push_back(Block::make(blueprint, one));
  }

  Var forward(const Var& rows, const Call& call) const override {
    Stream stream{rows, Var(), {}};
    for (size_t i = 0; i < blocks_.size(); ++i)
      stream = blocks_[i].forward(stream, call, static_cast<int64_t>(i), nullptr);
    return norm_.forward(stream.residual, stream.branch, call.type).y;
  }

  void visit(const Place& at, Visitor& visitor) override {
    for (size_t i = 0; i < blocks_.size(); ++i) blocks_[i].visit(at.in(fmt::format("layers.{}", i)), visitor);
    norm_.visit(at.in("norm"), NormOf::last, visitor);
  }

  std::vector<LayerBlueprint> layers() const override { return layers_; }

 private:
  std::vector<LayerBlueprint> layers_;
  std::vector<Block> blocks_;
  Norm norm_;
};

}  // namespace

std::unique_ptr<EncoderBody> encoder_body_of_layers(const BlockBlueprint& blueprint, int64_t layers) {
  return std::make_unique<LayersOfEncoder>(blueprint, layers);
}

}  // namespace hone
