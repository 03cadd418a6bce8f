// The room comm, compiled without MPI: a launcher is noticed all the same.
#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "base/error.h"
#include "comm/communicator.h"
#include "comm/thread_ranks.h"

using namespace hone;

namespace {

// Variables of a launcher.
struct Names {
  const char *ranks, *rank;
  void set(const char* count, const char* which) const {
    setenv(ranks, count, 1);
    setenv(rank, which, 1);
  }
  void unset() const {
    unsetenv(ranks);
    unsetenv(rank);
  }
};
constexpr Names launchers[] = {{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
                               {"PMI_SIZE", "PMI_RANK"},
                               {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"}};

}  // namespace

TEST_CASE("without MPI one process is alone, and several that a launcher started are refused by its name") {
  CHECK_FALSE(built_with_mpi());
  for (const Names& names : launchers) names.unset();
  CHECK(launched_ranks()->size() == 1);
  for (const Names& names : launchers) {
    CAPTURE(names.ranks);
    names.set("1", "0");
    CHECK(launched_ranks()->size() == 1);
    names.set("3", "2");
    std::string said;
    try {
      launched_ranks();
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::usage);
      said = error.what();
    }
    CHECK(said.find("3 ranks") != said.npos);
    CHECK(said.find(names.ranks) != said.npos);
    CHECK(said.find("this build has no MPI") != said.npos);
    names.unset();
  }
}

TEST_CASE("without MPI ranks are threads") {
  run_thread_ranks(3, [](const std::shared_ptr<Communicator>& ranks) {
    CHECK(ranks->gather(std::to_string(ranks->rank())) == std::vector<std::string>{"0", "1", "2"});
  });
}
