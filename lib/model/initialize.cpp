// Numbers of new parameters.
#include <cmath>

#include "base/memory_limit.h"
#include "base/random.h"
#include "base/stop.h"
#include "kernels/parallel.h"
#include "model/depth_routers.h"
#include "model/transformer.h"

namespace hone {
namespace {

class Initializer : public Visitor {
 public:
  Initializer(size_t layers, double deviation)
      : deviation_(deviation), branch_(deviation / std::sqrt(2.0 * static_cast<double>(layers))) {}

  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    add(info, *weight->parameter(), ends_branch(info.role) ? branch_ : deviation_);
  }

  void parameter(const ParameterInfo& info, Parameter& parameter) override {
    constexpr double small = 0.02;
    if (info.role == Role::position || info.role == Role::router || info.role == Role::shared_gate ||
        info.role == Role::depth_router || info.role == Role::encoder_row)
      add(info, parameter, small);
    if (info.role == Role::mixer_array && info.deviation > 0) add(info, parameter, info.deviation);
  }

  double bytes() const {
    double sum = 0;
    for (const Piece& piece : pieces_) sum += static_cast<double>(piece.parameter->value.bytes());
    return sum;
  }

  // A stream for each parameter: its numbers depend neither on the other layers nor on the threads.
  void fill(uint64_t seed) const {
    for (const Piece& piece : pieces_)
      if (piece.parameter->value.promised()) piece.parameter->value = Tensor::empty(piece.parameter->value.shape());
    kernels::parallel_each(static_cast<int64_t>(pieces_.size()), [&](int64_t i) {
      const Piece& piece = pieces_[static_cast<size_t>(i)];
      float* const values = piece.parameter->value.data<float>();
      Random random(seed, "init:" + piece.name);
      // Of a part all numbers of the whole are drawn, so that they do not depend on how it is divided.
      for_each_stretch(piece.part, whole_shape(piece.part, piece.parameter->value.shape()),
                       [&](int64_t count, int64_t at) {
                         for (int64_t j = 0; j < count && (j % at_once != 0 || !stop_wanted()); ++j) {
                           const auto w = static_cast<float>(random.normal() * piece.deviation);
                           if (at >= 0) values[at + j] = w;
                         }
                       });
    });
    check_stop();
  }

 private:
  static constexpr int64_t at_once = 1 << 16;  // numbers between two looks at signals

  struct Piece {
    std::string name;
    Parameter* parameter;
    double deviation;
    RankPart part;
  };

  void add(const ParameterInfo& info, Parameter& parameter, double deviation) {
    if (!info.part.here()) return;
    pieces_.push_back({info.name, &parameter, deviation, info.part});
    ++parameter.version;
  }

  double deviation_, branch_;
  std::vector<Piece> pieces_;
};

}  // namespace

void initialize(Transformer& model, uint64_t seed, double deviation) {
  if (ShapesOnly::active()) return;
  const Config& config = model.config();
  Initializer initializer(config.layers.size(), deviation);
  model.visit(initializer);
  require_memory(initializer.bytes(), "initializing the model", "choose a smaller shape");
  initializer.fill(seed);
}

void Transformer::set_depth_routers(std::span<const int64_t> layers, double fraction, uint64_t seed) {
  Config changed = config_;
  hone::set_depth_routers(changed, layers, fraction);
  check(changed);
  Initializer initializer(config_.layers.size(), init_deviation);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    Block& block = blocks_[i];
    const LayerBlueprint& layer = changed.layers[i];
    if (layer.depth_fraction == config_.layers[i].depth_fraction) continue;
    if (layer.depth_fraction > 0 && block.router) {
      block.router->set_fraction(layer.depth_fraction);
      continue;
    }
    block.router = nullptr;
    if (layer.depth_fraction == 0) continue;
    block.router = std::make_unique<DepthRouter>(config_.block, layer);
    block.router->visit(place_of_block(static_cast<int64_t>(i)).in("depth_router"), initializer);
  }
  if (!ShapesOnly::active()) initializer.fill(seed);
  config_.layers = changed.layers;
}

}  // namespace hone
