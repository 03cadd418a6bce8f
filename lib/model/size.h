// What a model of some shape takes, without making it.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "model/config.h"
#include "nn/state.h"
#include "tensor/tensor.h"

namespace hone {

struct ShapeSize {
  double parameters = 0;  // elements of all weights and parameters
  double linear = 0;      // of them in linear layers
};
// Of what is here, where ranks divide the experts.
ShapeSize size_of_shape(const Config& config, const std::shared_ptr<Communicator>& experts = nullptr);

// Of Transformer::make_state().
double cache_bytes(const Config& config, const StateShape& shape);

}  // namespace hone
