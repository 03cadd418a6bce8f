// Stores a model's weights in fewer bits, packed: see docs/quantize.md.
#include "cli/quantize.h"

int main(int argc, char** argv) {
  return hone::cli::quantize(argc, argv);
}
