// The half blocks of a model, one after the other, and what a tape keeps of them (nn/recompute.h).
#pragma once

#include <vector>

#include "nn/block.h"

namespace hone {

// Of these blocks, which outlive it and every tape that it records on. A half is counted as in nn/recompute.h; what its
// layer lacks is passed by.
class HalfBlocks {
 public:
  explicit HalfBlocks(const std::vector<Block>& blocks) : blocks_(blocks) {}

  // Layers from … to - 1. Recorded, where there is a tape and no state, as call.recompute says, with what a backward
  // observer wants to hear. Otherwise nothing is kept, and `state`, if any, has room for the batch: a token comes here,
  // for which no lists are made.
  Stream run(Stream stream, int64_t from, int64_t to, const Call& call, State* state) const;

  // Whether the last half of layers 0 … to - 1 runs again: no step of the tape then reads the residual behind it, which
  // may be dropped once the forward pass has.
  bool end_again(int64_t to, const Call& call) const;

 private:
  bool has(int64_t half) const { return blocks_[static_cast<size_t>(half / 2)].has(half % 2 != 0); }
  Stretch trimmed(Stretch stretch) const;
  Stream run_half(const Stream& in, int64_t half, const Call& call, State* state) const;
  Stream run_stretch(Stream stream, const Stretch& stretch, bool own, const Call& call, State* state) const;
  Stream run_again(const Stream& in, const Stretch& stretch, bool own, bool kept_before, const Call& call) const;
  void mark(int64_t half, const Call& call) const;

  const std::vector<Block>& blocks_;
};

}  // namespace hone
