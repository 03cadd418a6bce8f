// Measures the speed of models, of training, and of single kernels: see docs/bench.md.
#include "cli/bench.h"

int main(int argc, char** argv) {
  return hone::cli::bench(argc, argv);
}
