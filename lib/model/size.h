// What a model of some shape takes, without making it.
#pragma once

#include "model/config.h"
#include "nn/state.h"
#include "tensor/tensor.h"

namespace hone {

struct ShapeSize {
  double parameters = 0;   // elements of all weights and parameters
  double linear = 0;       // of them in linear layers
  double activations = 0;  // numbers a token's row makes on its way through the blocks, in the type of products
  double routed = 0;       // the same in experts that a token chooses, where none leaves it out
  double residual = 0;     // and in f32
};
ShapeSize size_of_shape(const Config& config);

// Of Transformer::make_state().
double cache_bytes(const Config& config, const StateShape& shape);

}  // namespace hone
