// Continues text with a model: see docs/generate.md.
#include "cli/generate.h"

int main(int argc, char** argv) {
  return hone::cli::generate(argc, argv);
}
