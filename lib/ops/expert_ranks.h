// Mixtures whose experts lie with several ranks, each of which owns as many, in their order (expert parallelism:
// GShard, Lepikhin et al., arXiv 2006.16668, section 3.2): slots go to the owners of their experts, and what those make
// of them comes back.
//
// All are called on every rank, in one order, forward and backward: also where a rank has nothing to send or to
// process.
#pragma once

#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "ops/mixture.h"
#include "weights/part.h"

namespace hone::ops {

// Where the slots of one call of a mixture go, where every rank has rows of its own.
struct ExpertRoute {
  std::shared_ptr<Communicator> ranks;
  std::vector<int64_t> begins;  // [ranks + 1]: where this rank's slots for each owner begin
  // [ranks][own experts]: slots that each rank has for the experts of this one.
  std::vector<std::vector<int64_t>> counts;
  // Of what the own experts process: `slots` and `offsets` alone. The slots of an expert are in the order of the ranks,
  // those of a rank as they stand there, so that every sum over them has one order.
  std::shared_ptr<const RoutePlan> owned;
};

// Tells the owners what comes, for `experts` in all, whose number the ranks divide. `plan`: of this rank's rows, or
// null where its router failed. Null on all ranks where it is so on one.
std::shared_ptr<const ExpertRoute> route_to_owners(const RoutePlan* plan, int64_t experts,
                                                   const std::shared_ptr<Communicator>& ranks);

// slots [plan->slots, dim] of every rank → those of the own experts, [owned->slots, dim]; f32 or bf16.
Var to_owners(const Var& slots, const std::shared_ptr<const ExpertRoute>& route);
// The same way back: what the owners made of each of this rank's slots, [plan->slots, width].
Var from_owners(const Var& owned, const std::shared_ptr<const ExpertRoute>& route);

// ---- where every rank has the same rows: nothing need be sent there ----

// Of the experts that `share` of them has: its slots, as if there were no others.
std::shared_ptr<const RoutePlan> plan_of_share(const RoutePlan& plan, const Share& share);
// What each rank's experts made of their slots, one behind the other: [plan.slots, width]. No gradient goes back.
Tensor slots_of_all(const Tensor& own, const RoutePlan& plan, Communicator& ranks);

}  // namespace hone::ops
