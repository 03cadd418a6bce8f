// Shows what is in a model file, or what differs between two: see docs/inspect.md.
#include "cli/inspect.h"

int main(int argc, char** argv) {
  return hone::cli::inspect(argc, argv);
}
