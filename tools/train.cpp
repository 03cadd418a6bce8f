// Trains a transformer from text, or continues one: see docs/train.md.
#include "cli/train.h"

int main(int argc, char** argv) {
  return hone::cli::train(argc, argv);
}
