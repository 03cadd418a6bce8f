// The half of a block that mixes tokens: attention, or what takes its place.
#pragma once

#include <memory>

#include "nn/blueprint.h"
#include "nn/call.h"
#include "nn/parameters.h"
#include "nn/state.h"

namespace hone {

class Mixer {
 public:
  virtual ~Mixer() = default;
  // x [rows, dim] -> [rows, dim]. `state` is what its make_state() made, or null: every span then stands for itself and
  // begins at position 0. With one, the batch's tokens follow what it holds, and it holds them afterwards.
  virtual Var forward(const Var& x, const Call& call, int64_t layer, LayerState* state) const = 0;
  virtual std::unique_ptr<LayerState> make_state(const StateShape& shape) const = 0;
  // Takes over what may change in a model that exists: the kind of attention.
  virtual void configure(const LayerBlueprint& layer) = 0;
  virtual void visit(const Place& at, Visitor& visitor) = 0;

  // Beside the linear layers, of the token at `position`: multiplications and additions, and bytes of state read.
  virtual double flops(int64_t position) const = 0;
  virtual double state_bytes_read(int64_t position, DType type, kernels::CacheCode code) const = 0;

  // The kind that the layer's blueprint asks for.
  static std::unique_ptr<Mixer> make(const BlockBlueprint& blueprint, const LayerBlueprint& layer);
};

}  // namespace hone
