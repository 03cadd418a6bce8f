// What of a forward pass is kept for the backward pass, and what is computed again in it (gradient checkpointing, Chen
// et al., arXiv 1604.06174).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hone {

// A stretch of half blocks. Halves are counted through the model: 2 * layer is the mixer of a layer, 2 * layer + 1 its
// feed-forward.
struct Stretch {
  int64_t from = 0, to = 0;  // halves from … to - 1
  bool again = false;        // only what enters the stretch is kept, and the backward pass computes it again

  bool operator==(const Stretch&) const = default;
};

// How halves are put into stretches. Every plan gives the same bits.
struct RecomputePlan {
  enum class Halves { none, mixers, feed_forwards, blocks };
  Halves halves = Halves::none;
  int64_t every = 1;  // blocks: so many make a stretch

  bool operator==(const RecomputePlan&) const = default;
  explicit operator bool() const { return halves != Halves::none; }

  // The halves of layers from … to - 1, in order.
  std::vector<Stretch> stretches(int64_t from, int64_t to) const;
};

// "none", "attention" (the mixers), "feed_forward", "blocks", or "every:K" with K of at least 1: so many blocks at a
// time. Error(usage) for another text.
RecomputePlan recompute_plan(const std::string& text);
std::string to_string(const RecomputePlan& plan);
inline constexpr std::string_view recompute_names = "none, attention, feed_forward, blocks or every:K";

// No stretch begins between the halves of a block.
inline bool keeps_blocks_whole(const RecomputePlan& plan) {
  return plan.halves == RecomputePlan::Halves::none || plan.halves == RecomputePlan::Halves::blocks;
}

// All there are for so many layers.
std::vector<RecomputePlan> recompute_plans(int64_t layers);

}  // namespace hone
