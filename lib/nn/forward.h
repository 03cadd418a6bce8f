// What accompanies a batch on its way through the modules.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/activation.h"
#include "tensor/tensor.h"

namespace hone {

// Keys and values of one layer for `batch` sequences: [batch, capacity, kv_heads * head_dim] each.
struct LayerCache {
  Tensor keys, values;
};

// Keys and values of tokens already seen. All sequences of one cache advance by the same number of tokens a call, from positions of
// their own.
struct Cache {
  std::vector<LayerCache> layers;
  std::vector<int64_t> lengths;  // tokens seen, for each sequence
  int64_t capacity = 0;
  int64_t bytes() const;
};

// One call of the model: `batch` sequences of `length` tokens each, row after row.
struct Forward {
  int64_t batch = 1, length = 0;
  std::vector<int32_t> positions;  // of each of the batch * length rows
  DType type = DType::f32;         // of activations and products
  Cache* cache = nullptr;
  const ops::RopeTable* rope = nullptr;
  float dropout = 0;
  uint64_t dropout_seed = 0;  // a new one a call; modules derive their own with next_dropout()
  double* attention_seconds = nullptr;  // += time in attention, where asked for

  uint64_t next_dropout() { return dropout_seed += 0x9e3779b97f4a7c15u; }
};

}  // namespace hone
