// Ranks that are threads of this process: what a launch of MPI's does with processes, without one.
#pragma once

#include <functional>
#include <memory>

#include "comm/communicator.h"

namespace hone {

// f(ranks) on `size` threads at once, each of which is a rank of them. Throws what the first that failed threw: others,
// which would wait for it for ever, end where they wait. Error(internal) where there are no so many threads.
//
// Messages are copied once, from one rank's memory into the other's, by whichever comes second. Who waits looks for
// some microseconds, lets others have the processor for a millisecond, and then sleeps.
void run_thread_ranks(int size, const std::function<void(const std::shared_ptr<Communicator>&)>& f);

}  // namespace hone
