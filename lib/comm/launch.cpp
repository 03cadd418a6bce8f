#include "comm/launch.h"

#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>

namespace hone {
namespace {

std::optional<int> number_in(const char* variable) {
  const char* text = std::getenv(variable);
  if (!text) return std::nullopt;
  int number = 0;
  const char* const end = text + std::strlen(text);
  const auto [at, error] = std::from_chars(text, end, number);
  if (error != std::errc() || at != end || number < 0) return std::nullopt;
  return number;
}

}  // namespace

Launch launch() {
  struct Names {
    const char *ranks, *rank;
  };
  for (const Names& names : {Names{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"}, Names{"PMI_SIZE", "PMI_RANK"},
                             Names{"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"}}) {
    const auto ranks = number_in(names.ranks), rank = number_in(names.rank);
    if (ranks && rank && *ranks > 0 && *rank < *ranks) return {*ranks, *rank, names.ranks};
  }
  return {};
}

std::string machine_name() {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  return name;
}

}  // namespace hone
