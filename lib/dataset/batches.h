// Batches for training: windows of a corpus in a shuffled order that costs no memory and can be continued from a few
// numbers.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "dataset/corpus.h"

namespace hone {

// A pseudo-random permutation of [0, size): a Feistel network over the next power of four, repeated until the value
// falls inside (cycle walking: Black & Rogaway 2002, "Ciphers with Arbitrary Finite Domains").
class Permutation {
 public:
  Permutation(uint64_t size, uint64_t key);  // size > 0
  uint64_t operator()(uint64_t i) const;     // i < size

 private:
  uint64_t size_, key_;
  int half_bits_;
};

// Each pass over the corpus visits every one of its non-overlapping windows once, in a new order; the first window of a
// pass begins at a random place in [0, context), so that the cuts fall elsewhere each time.
class BatchSampler {
 public:
  BatchSampler(Corpus corpus, int64_t context, uint64_t seed);  // Error(input) if no window fits

  // Fills rows [batch, context] with the batch = inputs.size() / context() next windows; targets are the inputs one
  // token later. Both spans have the same size, a multiple of context().
  void next(std::span<int32_t> inputs, std::span<int32_t> targets);

  // Where in the corpus the windows that next() gave last begin.
  std::span<const int64_t> starts() const { return starts_; }

  // Windows are of this length from now on (a length curriculum). A change begins a new pass. Error(input) if no window
  // fits.
  void set_context(int64_t context);
  int64_t context() const { return context_; }

  // The position, exactly. restore() throws Error(input) if the value is not one of state()'s for this corpus.
  nlohmann::json state() const;
  void restore(const nlohmann::json& state);

 private:
  void begin_pass();
  int64_t windows() const;

  Corpus corpus_;
  int64_t context_;
  uint64_t seed_;
  uint64_t pass_ = 0;     // passes begun before this one
  int64_t position_ = 0;  // windows of this pass that are done
  int64_t drawn_ = 0;     // tokens
  int64_t phase_ = 0;     // where the first window of this pass begins; follows from seed, pass and context
  Permutation order_;
  std::vector<int64_t> starts_;
};

}  // namespace hone
