// How threads of OpenMP wait in Hone's programs.
#pragma once

namespace hone::cli {

// Lets threads that wait for others spin for microseconds and then sleep. GNU's OpenMP spins for milliseconds, so that
// two programs on the same cores wait for threads that cannot run: 100 times as long, measured. Where GOMP_SPINCOUNT or
// OMP_WAIT_POLICY say something already, nothing is changed.
//
// OpenMP reads its settings when it is loaded, before main(), from the environment. So this program's environment has
// the setting until main() begins, in the place of a variable that nothing reads before; this call, the first in
// main(), puts that back. Where there was no place, it starts the program anew with the setting, once.
void spin_briefly(char** argv);

}  // namespace hone::cli
