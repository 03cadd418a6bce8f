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

// Lets threads that wait for others spin for microseconds and then sleep, in programs that this one starts. GNU's
// OpenMP spins for milliseconds, so that two programs on the same cores wait for threads that cannot run: 100 times as
// long, measured. False where GOMP_SPINCOUNT or OMP_WAIT_POLICY say something already: nothing is changed then.
bool let_programs_spin_briefly();

// The same for this program. OpenMP reads its settings when it is loaded, before main(); so this starts the program
// anew with the setting, once. Call it first in main().
void spin_briefly(char** argv);

}  // namespace hone
