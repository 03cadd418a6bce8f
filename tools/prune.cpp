// Sets weights of a model to zero, by score and pattern: see docs/prune.md.
#include "cli/prune.h"

int main(int argc, char** argv) {
  return hone::cli::prune(argc, argv);
}
