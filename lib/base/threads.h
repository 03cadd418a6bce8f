// How many threads to use.
#pragma once

namespace hone {

struct ThreadChoice {
  int count;
  const char* source;  // "--threads", "HONE_THREADS", "OMP_NUM_THREADS" or "physical cores"
};

// `flag` is the command line's value, 0 if it was not given. Throws Error(usage) for a variable that is not a number
// above 0.
ThreadChoice choose_threads(int flag);

}  // namespace hone
