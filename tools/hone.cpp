// One command in front of the tools, so that `hone eval` needs no path: see docs/pipeline.md.
#include "cli/front.h"

int main(int argc, char** argv) {
  return hone::cli::front(argc, argv);
}
