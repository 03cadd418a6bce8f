// What of a forward pass is kept for the backward pass, and what is computed again in it (gradient checkpointing, Chen
// et al., arXiv 1604.06174).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hone {

// A stretch of half blocks. Halves are counted through the model: 2 * layer is the mixer of a layer, 2 * layer + 1 its
// feed-forward.
struct Stretch {
  int64_t from = 0, to = 0;  // halves from … to - 1
  bool again = false;        // only what enters the stretch is kept, and the backward pass computes it again

  bool operator==(const Stretch&) const = default;
};

// How halves are put into stretches: a function, which the table in recompute.cpp names, and its number. Every plan
// gives the same bits.
struct RecomputePlan {
  // The halves of layers from … to - 1, in order.
  using Cut = std::vector<Stretch> (*)(int64_t from, int64_t to, int64_t number);
  Cut cut = nullptr;  // null: one stretch that keeps everything
  int64_t number = 1;

  bool operator==(const RecomputePlan&) const = default;
  explicit operator bool() const { return cut != nullptr; }

  std::vector<Stretch> stretches(int64_t from, int64_t to) const;
  bool keeps_blocks_whole() const;  // no stretch begins between the halves of a block
};

// "none", "attention" (the mixers), "feed_forward", "blocks", or "every:K" with K of at least 1: so many blocks at a
// time. Error(usage) for another text.
RecomputePlan recompute_plan(const std::string& text);
std::string to_string(const RecomputePlan& plan);
std::string recompute_names();  // "none, attention, …, blocks or every:K"

// All there are for so many layers.
std::vector<RecomputePlan> recompute_plans(int64_t layers);

}  // namespace hone
