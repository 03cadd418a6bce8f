#include <doctest/doctest.h>

#include <cstdlib>

#include "base/error.h"
#include "base/stop.h"
#include "comm/communicator.h"
#include "comm/gather.h"
#include "comm/launch.h"
#include "comm/thread_ranks.h"

using namespace hone;

namespace {

// Variables of the environment while it lives.
class Environment {
 public:
  Environment(std::initializer_list<std::pair<const char*, const char*>> values) {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_SIZE", "PMI_RANK", "SLURM_NTASKS",
                             "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"})
      unsetenv(name);
    for (const auto& [name, value] : values) {
      setenv(name, value, 1);
      names_.push_back(name);
    }
  }
  ~Environment() {
    for (const char* name : names_) unsetenv(name);
  }

 private:
  std::vector<const char*> names_;
};

}  // namespace

TEST_CASE("a launch is known by what the launcher says") {
  {
    const Environment none{};
    CHECK(launch().ranks == 1);
    CHECK(launch().said_by.empty());
  }
  {
    const Environment open_mpi{{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "3"}};
    CHECK(launch().ranks == 4);
    CHECK(launch().rank == 3);
    CHECK(launch().said_by == "OMPI_COMM_WORLD_SIZE");
  }
  {
    const Environment mpich{{"PMI_SIZE", "2"}, {"PMI_RANK", "0"}};
    CHECK(launch().ranks == 2);
  }
  {  // srun, whatever it was told of MPI
    const Environment step{{"SLURM_NTASKS", "4"}, {"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_PROCID", "2"}};
    CHECK(launch().ranks == 4);
    CHECK(launch().rank == 2);
  }
  {  // one rank of mpirun, which srun started on each of two machines
    const Environment both{{"OMPI_COMM_WORLD_SIZE", "1"},
                           {"OMPI_COMM_WORLD_RANK", "0"},
                           {"SLURM_STEP_NUM_TASKS", "2"},
                           {"SLURM_PROCID", "1"}};
    CHECK(launch().ranks == 1);
  }
  {  // the script of a batch job of four tasks, which starts this one by itself
    const Environment job{{"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}};
    CHECK(launch().ranks == 1);
  }
  for (const char* wrong : {"", "four", "-1", "0", "4x"}) {
    const Environment damaged{{"PMI_SIZE", wrong}, {"PMI_RANK", "0"}};
    CHECK(launch().ranks == 1);
  }
  const Environment outside{{"PMI_SIZE", "2"}, {"PMI_RANK", "2"}};
  CHECK(launch().ranks == 1);
}

TEST_CASE("a process alone is rank 0 of 1") {
  Communicator& ranks = *alone();
  CHECK(ranks.size() == 1);
  CHECK(ranks.rank() == 0);
  CHECK(ranks.gather("text") == std::vector<std::string>{"text"});
  CHECK_THROWS_AS(ranks.send({}, 1), Error);
  std::string said;
  const auto say = [&](const std::string& message) { said += message; };
  CHECK(ranks.leave(3, "what failed", say) == 3);
  CHECK(said == "what failed");
  CHECK(ranks.leave(0, "", say) == 0);
  CHECK(said == "what failed");
}

TEST_CASE("ranks throw alike what one of them threw") {
  for (const int failing : {0, 2}) {
    CAPTURE(failing);
    for (const bool stopped : {false, true}) {
      std::vector<std::string> seen(3);
      run_thread_ranks(3, [&](const std::shared_ptr<Communicator>& ranks) {
        std::string& mine = seen[static_cast<size_t>(ranks->rank())];
        const auto turns = gather_agreed(*ranks, [&] { return fmt::format("rank {}", ranks->rank()); });
        CHECK(turns == std::vector<std::string>{"rank 0", "rank 1", "rank 2"});
        try {
          agree(*ranks, [&] {
            if (ranks->rank() < failing) return;
            if (stopped) throw Stopped(15);
            throw input_error("of rank {}: 'a file'", ranks->rank());
          });
        } catch (const Stopped& stop) {
          mine = std::to_string(stop.signal());
        } catch (const Error& error) {
          mine = fmt::format("{} {}", error.exit_status(), error.what());
        }
      });
      const std::string expected = stopped ? "15" : fmt::format("3 of rank {}: 'a file'", failing);
      CHECK(seen == std::vector<std::string>(3, expected));
    }
  }
}

TEST_CASE("lists of all ranks come by rank, also empty ones") {
  struct Pair {
    int64_t number;
    double value;
  };
  run_thread_ranks(3, [](const std::shared_ptr<Communicator>& ranks) {
    const auto lists = gather_lists<Pair>(*ranks, [&] {
      return std::vector<Pair>(static_cast<size_t>(ranks->rank()), Pair{ranks->rank(), 0.5 * ranks->rank()});
    });
    REQUIRE(lists.size() == 3);
    for (size_t rank = 0; rank < 3; ++rank) {
      REQUIRE(lists[rank].size() == rank);
      for (const Pair& pair : lists[rank]) {
        CHECK(pair.number == static_cast<int64_t>(rank));
        CHECK(pair.value == 0.5 * static_cast<double>(rank));
      }
    }
  });
  CHECK(gather_lists<Pair>(*alone(), [] { return std::vector<Pair>(2, Pair{7, 1}); }).front()[1].number == 7);
}

TEST_CASE("that it was a router that failed is known on every rank") {
  std::vector<std::string> seen(3);
  run_thread_ranks(3, [&](const std::shared_ptr<Communicator>& ranks) {
    try {
      agree(*ranks, [&] {
        if (ranks->rank() == 1) throw RouterError(ErrorKind::input, "the router of layer 1");
      });
    } catch (const RouterError& error) {
      seen[static_cast<size_t>(ranks->rank())] = fmt::format("{} {}", error.exit_status(), error.what());
    }
  });
  CHECK(seen == std::vector<std::string>(3, "3 the router of layer 1"));
}

TEST_CASE("one process that is split stays alone") {
  CHECK(alone()->split(3)->size() == 1);
}
