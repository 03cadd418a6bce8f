// Scores models on text, side by side or against a baseline: see docs/eval.md.
#include "cli/eval.h"

int main(int argc, char** argv) {
  return hone::cli::eval(argc, argv);
}
