// What a model of some shape takes, without making it.
#pragma once

#include "model/division.h"
#include "nn/state.h"
#include "tensor/tensor.h"

namespace hone {

struct ShapeSize {
  double parameters = 0;  // elements of all weights and parameters
  double linear = 0;      // of them in linear layers
};
// Of what this one of the ranks has.
ShapeSize size_of_shape(const Config& config, const ModelRanks& ranks = {});

// Of Transformer::make_state().
double cache_bytes(const Config& config, const StateShape& shape);

}  // namespace hone
