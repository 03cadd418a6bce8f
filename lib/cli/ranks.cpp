#include "cli/ranks.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <thread>

#include "base/error.h"
#include "base/units.h"
#include "comm/launch.h"

namespace hone::cli {
namespace {

std::string machine_name() {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  return name;
}

// Processors that this process may run on, as the kernel writes them: "0-3,8".
std::string allowed_cpu_list() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (constexpr std::string_view name = "Cpus_allowed_list:"; line.starts_with(name))
      return line.substr(line.find_first_not_of(" \t", name.size()));
  return "unknown";
}

}  // namespace

RanksHere ranks_here(Communicator& ranks) {
  RanksHere here;
  if (ranks.size() == 1) return here;
  const std::string machine = machine_name(), cpus = allowed_cpu_list();
  here.on_machine = here.on_cores = 0;
  const std::vector<std::string> places = ranks.gather(machine + "\n" + cpus);
  for (const std::string& place : places) {
    here.on_machine += place.starts_with(machine + "\n");
    here.on_cores += place == machine + "\n" + cpus;
  }
  constexpr size_t most = 8;  // that are listed
  std::vector<std::string> listed;
  for (size_t i = 0; i < std::min(places.size(), most); ++i) {
    const size_t end = places[i].find('\n');
    const std::string of_cpus = places[i].substr(end + 1);
    listed.push_back(fmt::format("{} on {}CPU{} {}", i,
                                 here.on_machine == ranks.size() ? "" : places[i].substr(0, end) + " ",
                                 of_cpus.find_first_of("-,") == std::string::npos ? "" : "s", of_cpus));
  }
  here.described =
      fmt::format("{} ranks: {}{}", places.size(), fmt::join(listed, ", "), places.size() > most ? ", …" : "");
  return here;
}

void refuse_ranks(const std::string& tool) {
  const Launch launched = launch();
  if (launched.ranks == 1) return;
  throw usage_error(
      "{} works in one process, and {} were launched ({}): they would all do the same; start it without the launcher",
      tool, launched.ranks, launched.said_by);
}

void silence_rank() {
  const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (nowhere < 0) return;
  dup2(nowhere, STDIN_FILENO);
  dup2(nowhere, STDOUT_FILENO);
  close(nowhere);
}

void let_first_rank_speak() {
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
}

void require_alike(Communicator& ranks, const nlohmann::json& description) {
  const std::vector<std::string> all = ranks.gather(description.dump());
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] == all.front()) continue;
    const auto first = nlohmann::json::parse(all.front()), other = nlohmann::json::parse(all[rank]);
    for (const auto& [key, value] : first.items())
      if (!other.contains(key) || other[key] != value)
        throw usage_error("rank {} runs with another '{}' than rank 0 ({} there, {} here); start all ranks alike", rank,
                          key, other.contains(key) ? other[key].dump() : "nothing", value.dump());
    throw usage_error("rank {} runs with more options than rank 0; start all ranks alike", rank);
  }
}

void check_parallel(const std::string& parallel, int ranks) {
  if (parallel.empty()) return;
  const size_t colon = parallel.find(':');
  const std::string kind = parallel.substr(0, colon);
  if (kind != "data" || colon == std::string::npos)
    throw usage_error("--parallel {}: give data:RANKS, as in data:4", parallel);
  int64_t count = 0;
  try {
    count = parse_count(parallel.substr(colon + 1));
  } catch (const Error& error) {
    throw usage_error("--parallel {}: {}", parallel, error.what());
  }
  if (count < 1) throw usage_error("--parallel {}: there is at least one rank", parallel);
  if (count == ranks) return;
  if (ranks == 1 && !built_with_mpi())
    throw usage_error("--parallel {}: this build has no MPI; install libopenmpi-dev and build again", parallel);
  throw usage_error("--parallel {} names {} ranks, and there {}; start as many: mpirun -n {} …", parallel, count,
                    ranks == 1 ? "is one" : fmt::format("are {}", ranks), count);
}

}  // namespace hone::cli
