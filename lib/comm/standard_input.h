// Standard input of several ranks: a launcher gives it to the first alone, and threads have one together.
#pragma once

#include "comm/communicator.h"

namespace hone {

// On every rank: what rank 0 can read from its standard input becomes the standard input of all, in memory.
void share_standard_input(Communicator& ranks);

}  // namespace hone
