// Takes models from the formats of other projects and to them: see docs/convert.md.
#include "cli/convert.h"

int main(int argc, char** argv) {
  return hone::cli::convert(argc, argv);
}
