// How many threads to use.
#pragma once

#include <string>

namespace hone {

struct ThreadChoice {
  int count;
  // Where it is shared, " / PROCESSES" behind it. "asked for", "HONE_THREADS", "OMP_NUM_THREADS", "physical cores",
  // "CPU quota of 1.5" or "affinity mask: 2 of 16 CPUs", which Open MPI, taskset and batch systems set.
  std::string source;
};

// `flag` is the command line's value, 0 if it was not given. `sharing`: processes of one launch, this one among them,
// that may run on the same cores, which are then divided among them. Throws Error(usage) for a variable that is not a
// number above 0.
ThreadChoice choose_threads(int flag, int sharing = 1);

}  // namespace hone
