// The gradient of a step as the sum of its batches', in their order, whoever computed them: each element is
// ((g0 + g1) + g2) + …, so that no bit depends on how many ranks there are, or on how messages are cut.
//
// With several ranks a parameter's sum is where its optimizer state is: every other rank sends its gradient there.
#pragma once

#include <string>
#include <vector>

#include "autograd/autograd.h"
#include "comm/communicator.h"

namespace hone {

// A parameter, and the rank that keeps its optimizer state.
struct OwnedParameter {
  Parameter* parameter;
  int owner;
};

class GradientSum {
 public:
  // Keeps what it is given, which all ranks give in one order.
  GradientSum(std::vector<OwnedParameter> parameters, Communicator& ranks);

  // Which parameters have a gradient now: a letter each, for add().
  std::string present() const;
  // On every rank, after each computed one batch: adds the gradients of the ranks in the order of the ranks, and takes
  // them out of the parameters. `present` by rank.
  void add(const std::vector<std::string>& present);
  // Puts the sums into the parameters that this rank owns, and begins anew. No other has a gradient then.
  void finish();
  void discard();  // begins anew without

  // On every rank, after the owners changed what has a sum: their values come to all.
  void share_values();

 private:
  struct Slot {
    Parameter* parameter;
    int owner;
    Tensor sum;            // on its owner
    bool any = false;      // some batch so far had a gradient, on whatever rank
    bool changes = false;  // the step's sum is there, so that its owner changes the value
  };
  void add_in_order(Slot& slot, size_t index, const std::vector<std::string>& present, std::span<Tensor> received);

  std::vector<Slot> slots_;
  Communicator& ranks_;
};

}  // namespace hone
