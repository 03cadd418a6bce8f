// How several ranks share a step: who computes which of its batches, and who keeps the optimizer's state of which
// parameter (ZeRO's first stage: Rajbhandari et al., arXiv 1910.02054, section 5.1, by whole parameters).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace hone {

// A step is so many batches of so many sequences, whose gradients are averaged.
struct StepCut {
  int64_t batch = 1;
  int64_t accumulate = 1;
  bool operator==(const StepCut&) const = default;
};

// The same sequences in the fewest batches that `ranks` share evenly, as a multiple of those asked for. Error(usage)
// where there are none.
StepCut cut_for(const StepCut& asked, int ranks);

// Whether `other` is a cut that some number of ranks would have made of `asked`.
bool cut_of(const StepCut& other, const StepCut& asked);

// Of each thing of that size, the rank that has it, so that all have about as much: the largest first, each to who has
// least so far. Depends on nothing else. Of ranks in rows of `width`, a thing with a column goes to one of that (-1,
// and where none are given: to any).
std::vector<int> divide(std::span<const double> sizes, int ranks, std::span<const int> columns = {}, int width = 1);

}  // namespace hone
