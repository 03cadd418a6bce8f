// The gradient of a step as the sum of its batches', in their order, whoever computed them: each element is
// ((g0 + g1) + g2) + …, so that no bit depends on how many ranks there are, or on how messages are cut.
//
// With several ranks a parameter's sum is where its optimizer state is: every other rank sends its gradient there, and
// may do so while its backward pass still runs for the layers below.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "autograd/autograd.h"
#include "comm/communicator.h"

namespace hone {

// A parameter, and the rank that keeps its optimizer state.
struct OwnedParameter {
  Parameter* parameter;
  int owner;
  int64_t layer = -1;  // of the block that it belongs to; -1: of none
  // Of an expert that some ranks have, one in each group of `width`: those that are `column` there. Its gradient on one
  // of them is the sum over its group's batches, and the others have none. -1: all have it.
  int column = -1, width = 1;

  bool on(int rank) const { return column < 0 || rank % width == column; }
};

class GradientSum {
 public:
  // Keeps what it is given, which all ranks give in one order.
  GradientSum(std::vector<OwnedParameter> parameters, Communicator& ranks);
  ~GradientSum();
  GradientSum(const GradientSum&) = delete;
  GradientSum& operator=(const GradientSum&) = delete;

  // On every rank, at the same places of its backward pass: gradients of layers from `layer` on are final, and go on
  // their way. For models of which every layer has gradients in every batch. The batch then ends in add(), or, where it
  // is dropped on all ranks, in drop().
  void begin(int64_t layer);
  void drop();

  // Which parameters have a gradient now: a letter each, for add().
  std::string present() const;
  // On every rank, after each computed one batch: adds the gradients of the ranks in the order of the ranks, and takes
  // them out of the parameters. `present` by rank.
  void add(const std::vector<std::string>& present);
  // Puts the sums into the parameters that this rank owns, and begins anew. No other has a gradient then.
  void finish();
  void discard();  // begins anew without

  // On every rank, after the owners changed what has a sum: their values come to all that have the parameter.
  void share_values();

 private:
  struct Slot : OwnedParameter {
    Tensor sum;            // on its owner
    bool any = false;      // some batch so far had a gradient, on whatever rank
    bool changes = false;  // the step's sum is there, so that its owner changes the value
    bool begun = false;    // its gradient of this batch is on its way
  };
  // What others send of a slot that this rank owns, by rank without this one.
  struct Coming {
    size_t slot;
    std::vector<Tensor> gradients;
    std::vector<std::unique_ptr<Pending>> pending;
    bool done();
  };
  void share_value(const Slot& slot, std::vector<std::unique_ptr<Pending>>& on_way) const;
  Coming receive(size_t slot, const std::string& from) const;
  void add_in_order(Slot& slot, const std::string& present, std::vector<Tensor>& received);
  void add_arrived(size_t most_bytes);  // of what is coming, until no more than that is on its way
  void add_late(const std::vector<std::string>& present);

  std::vector<Slot> slots_;
  Communicator& ranks_;
  std::vector<Coming> coming_;  // in the order of begin()
  std::vector<std::unique_ptr<Pending>> sent_;
};

}  // namespace hone
