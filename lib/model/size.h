// What a model of some shape takes, without making it.
#pragma once

#include "model/config.h"
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

// Of make_cache().
double cache_bytes(const Config& config, int64_t batch, int64_t capacity, DType type);
// Throws Error(usage) where a cache is larger than the memory there is.
void require_cache_memory(const Config& config, int64_t batch, int64_t capacity, DType type);

}  // namespace hone
