// Answers requests over HTTP with a model: see docs/serve.md.
#include "cli/serve.h"

int main(int argc, char** argv) {
  return hone::cli::serve(argc, argv);
}
