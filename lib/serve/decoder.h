// Sequences in generation: a model, a cache, and the logits for what comes next.
#pragma once

#include <cstdint>
#include <span>

#include "model/transformer.h"

namespace hone {

// `batch` sequences that advance together. All calls run without a tape.
class Decoder {
 public:
  // Room for `capacity` tokens a sequence. Throws Error(usage) for a cache that is larger than this machine's memory.
  Decoder(Transformer& model, int64_t batch, int64_t capacity, DType type);

  // Adds the same number of tokens to each sequence: `ids` is [batch, length], row after row, each id below the model's
  // vocabulary (Error(input)). At most `chunk` of them go through the model at once. Returns the logits after the last
  // token of each sequence, f32 [batch, vocabulary]. Throws Error(usage) when the cache or learned positions are
  // overrun.
  Tensor feed(std::span<const int32_t> ids, int64_t chunk = 512);

  void clear();                                              // forgets all tokens
  int64_t length() const { return cache_.lengths.front(); }  // tokens of each sequence
  int64_t capacity() const { return cache_.capacity; }
  int64_t batch() const { return static_cast<int64_t>(cache_.lengths.size()); }

 private:
  Transformer& model_;
  DType type_;
  Cache cache_;
};

}  // namespace hone
