// What accompanies a batch on its way through the modules.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "nn/attention/cache.h"
#include "nn/routing.h"
#include "ops/activation.h"

namespace hone {

// What attention did in the calls that were given this.
struct AttentionMeter {
  double seconds = 0;           // forward: choosing blocks, caches and rotary positions included, projections not
  double backward_seconds = 0;  // of the steps on a tape
  int64_t visible_pairs = 0;    // of queries and keys, over sequences, heads and layers; single queries do not count
  int64_t causal_pairs = 0;     // what full attention would have seen
  double fraction() const {
    return causal_pairs ? static_cast<double>(visible_pairs) / static_cast<double>(causal_pairs) : 1;
  }
};

// Keys and values of tokens already seen. All sequences of one cache advance by the same number of tokens a call, from
// positions of their own.
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
  uint64_t dropout_seed = 0;            // a new one a call; modules derive their own with next_dropout()
  int64_t layer = 0;                    // the block that runs, for messages and reports
  RouterCall router;                    // of mixtures of experts
  AttentionMeter* attention = nullptr;  // added to, where asked for; must outlive the tape

  uint64_t next_dropout() { return dropout_seed += 0x9e3779b97f4a7c15u; }
};

}  // namespace hone
