#include "cli/ranks.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>
#include <thread>
#include <utility>

#include "base/cpu.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/spelling.h"
#include "base/units.h"
#include "comm/launch.h"
#include "kernels/parallel.h"

namespace hone::cli {
namespace {

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
    const nlohmann::json first = parse_json(all.front()), other = parse_json(all[rank]);
    for (const auto& [key, value] : first.items())
      if (!other.contains(key) || other[key] != value)
        throw usage_error("rank {} runs with another '{}' than rank 0 ({} there, {} here); start all ranks alike", rank,
                          key, other.contains(key) ? other[key].dump() : "nothing", value.dump());
    throw usage_error("rank {} runs with more options than rank 0; start all ranks alike", rank);
  }
}

namespace {

// What --parallel says: rows of so many ranks that divide the model in one way, and so many that share the batches.
struct Layout {
  int64_t data = 1, width = 1;
  const DivisionKind* way = nullptr;  // null: each has the whole model
};

Layout parsed(const std::string& parallel, const std::string& forms) {
  const std::span<const DivisionKind> ways = divisions();
  Layout layout;
  std::set<std::string> seen;
  std::istringstream list(parallel + ",");
  for (std::string part; std::getline(list, part, ',');) {
    const size_t colon = part.find(':');
    const std::string name = part.substr(0, colon);
    const auto way = std::ranges::find(ways, name, &DivisionKind::name);
    const bool known = name == "data" || way != ways.end();
    if (!known || colon == std::string::npos || !seen.insert(name).second)
      throw usage_error("--parallel {}: give {}", parallel, forms);
    int64_t count = 0;
    try {
      count = parse_count(part.substr(colon + 1));
    } catch (const Error& error) {
      throw usage_error("--parallel {}: {}", parallel, error.what());
    }
    if (count < 1) throw usage_error("--parallel {}: there is at least one rank", parallel);
    if (count > std::numeric_limits<int>::max()) throw usage_error("--parallel {}: that many do not run", parallel);
    if (name == "data") {
      layout.data = count;
    } else if (count > 1) {
      if (layout.way)
        throw usage_error("--parallel {}: ranks divide {} or {}, not both; leave out {} or {}", parallel,
                          layout.way->what, way->what, layout.way->name, way->name);
      layout.way = &*way;
      layout.width = count;
    }
  }
  return layout;
}

void require_count(const std::string& parallel, const Layout& layout, int ranks) {
  const int64_t count = layout.data * layout.width;
  if (count == ranks) return;
  if (ranks == 1 && !built_with_mpi())
    throw usage_error("--parallel {}: this build has no MPI; install libopenmpi-dev and build again", parallel);
  throw usage_error("--parallel {} names {} ranks, and there {}; start as many: mpirun -n {} …", parallel, count,
                    ranks == 1 ? "is one" : fmt::format("are {}", ranks), count);
}

std::string grid_forms() {
  return fmt::format("data:RANKS, {}, or data with one of the others, as in data:2,{}",
                     fmt::join(division_forms("RANKS"), ", "), division_forms("2").front());
}

// What ranks of a row compute for themselves must come out the same on all, to the bit.
void require_same_arithmetic(Communicator& row) {
  const std::vector<std::string> all =
      row.gather(fmt::format("{} ({})", counted(kernels::threads(), "thread"), name_of(isa())));
  for (size_t rank = 1; rank < all.size(); ++rank)
    if (all[rank] != all.front())
      throw usage_error(
          "ranks with parts of one model compute alike, but one has {} and another {}; give all the same --threads and "
          "HONE_ISA",
          all.front(), all[rank]);
}

}  // namespace

int ranks_named(const std::string& parallel) {
  if (parallel.empty()) return 1;
  constexpr int64_t most = 256;
  const Layout layout = parsed(parallel, grid_forms());
  if (layout.data > most || layout.width > most || layout.data * layout.width > most)
    throw usage_error("--parallel {}: at most {} ranks are threads of one process; start more by mpirun", parallel,
                      most);
  return static_cast<int>(layout.data * layout.width);
}

RankGrid parallel_grid(const std::string& parallel, const std::shared_ptr<Communicator>& ranks) {
  if (parallel.empty()) return RankGrid::of(ranks);
  const Layout layout = parsed(parallel, grid_forms());
  require_count(parallel, layout, ranks->size());
  const RankGrid grid =
      layout.way ? RankGrid::of(ranks, *layout.way, static_cast<int>(layout.width)) : RankGrid::of(ranks);
  require_same_arithmetic(*grid.group());
  return grid;
}

ModelRanks if_they_divide(const ModelRanks& ranks, const Config& config, const Config& beside,
                          const std::string& what) {
  try {
    ranks.check_beside(config, beside);
  } catch (const Error& error) {
    log_warning("every rank has the whole {}: {}", what, error.what());
    return {};
  }
  return ranks;
}

double largest(Communicator& ranks, double mine) {
  double most = mine;
  for (const std::string& other : ranks.gather(fmt::format("{}", mine))) most = std::max(most, std::stod(other));
  return most;
}

ModelRanks parallel_parts(const std::string& parallel, const std::shared_ptr<Communicator>& ranks,
                          const std::string& tool, const std::vector<std::string>& arguments) {
  if (parallel.empty() && ranks->size() == 1) return {};
  if (parallel.empty())
    throw usage_error(
        "{} works in one process, and {} were launched; to have them share the model give --parallel {}, or start it "
        "without the launcher",
        tool, ranks->size(), either_of(division_forms(std::to_string(ranks->size()))));
  const std::string forms =
      fmt::format("{}, as in {}", either_of(division_forms("RANKS")), division_forms("2").front());
  const Layout layout = parsed(parallel, forms);
  if (layout.data > 1) throw usage_error("--parallel {}: give {}", parallel, forms);
  require_count(parallel, layout, ranks->size());
  const std::vector<std::string> all = ranks->gather(fmt::format("{}", fmt::join(arguments, "\n")));
  for (size_t rank = 1; rank < all.size(); ++rank)
    if (all[rank] != all.front())
      throw usage_error("rank {} was started with other options than rank 0; start all ranks alike", rank);
  require_same_arithmetic(*ranks);
  return layout.way ? ModelRanks(*layout.way, ranks) : ModelRanks();
}

std::string parallel_grid_help() {
  std::vector<std::string> ways, both;
  for (const DivisionKind& row : divisions()) {
    const auto [among, divides] = ways.empty() ? std::pair(" among 2", "divides ") : std::pair("", "");
    ways.push_back(fmt::format("{}:2 {}{}{}", row.name, divides, row.what, among));
    both.push_back(fmt::format("data:2,{}:2", row.name));
  }
  return fmt::format(
      "How ranks, threads of this process or processes that mpirun starts, share the work: data:4 computes each step's "
      "batches on 4, {}, and {} does both on 4 (default: one, or data:RANKS under mpirun)",
      fmt::join(ways, ", "), either_of(both));
}

std::string parallel_parts_forms() {
  std::vector<std::string> ways;
  for (const DivisionKind& row : divisions()) ways.push_back(fmt::format("{} ({}:2)", row.what, row.name));
  return either_of(ways);
}

}  // namespace hone::cli
