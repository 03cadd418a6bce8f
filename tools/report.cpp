// Makes one page of a run's logs, results and models: see docs/report.md.
#include "cli/report.h"

int main(int argc, char** argv) {
  return hone::cli::report(argc, argv);
}
