// What all executables share: common options, configuration files, exit statuses.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cli/config_file.h"
#include "cli/option_values.h"
#include "cli/result.h"
#include "comm/communicator.h"
#include "io/model_file.h"
#include "model/store.h"

namespace hone::cli {

struct Common {
  int threads = 0;                 // as chosen, once parsed
  std::vector<int> thread_counts;  // all that --threads names, of a tool that takes several; else that one
  uint64_t seed = 1;
  bool quiet = false;
  bool dry_run = false;  // check everything, write nothing
  std::string log_level = "info";
  std::string config;  // the file of --config, or ""
  // For the lineage: the command line; with --config, the options in force instead, so that nobody needs the file.
  std::vector<std::string> arguments;
  std::vector<std::string> notes;                 // what the command line excludes of that file
  std::shared_ptr<Communicator> ranks = alone();  // that run the tool together; the first of them writes and prints
  int ranks_on_machine = 1;                       // those of them that share this machine's memory
};

struct Tool {
  const char* name;     // has a line in cli/tools.cpp
  const char* example;  // lines of shell, each beginning with "  NAME ", shown under --help
  // Adds the tool's options (in option groups) and returns what to run after parsing; its result is the exit status.
  std::function<std::function<int()>(CLI::App& app, const Common& common)> setup;
  bool many_threads = false;  // --threads takes a list: 1,2
  // Options and positionals that the tool demands itself, with words of its own: --help shows them as required.
  std::vector<std::string> required = {};
  // For a tool that several ranks of an MPI launch run together: launched_ranks. Others refuse such a launch.
  std::shared_ptr<Communicator> (*ranks)() = nullptr;
  // For a tool whose ranks may also be threads of a process that no launcher started: how many --parallel, which it then
  // has, names (ranks_named).
  int (*ranks_of)(const std::string& parallel) = nullptr;
  // Options that go not with others, which the tool refuses in words of its own.
  std::vector<Exclusion> exclusions = {};
};

// f(), which reads the value of an option: a usage error of it that does not name the option does so. "pattern '3:2':
// …" is of --pattern: it becomes "--pattern '3:2': …".
template <class F>
auto for_option(const std::string& option, F&& f) {
  try {
    return f();
  } catch (const Error& error) {
    const std::string_view what = error.what();
    if (error.kind() != ErrorKind::usage || what.find(option) != what.npos) throw;
    if (what.starts_with(option.substr(2) + " '")) throw usage_error("--{}", what);
    throw usage_error("{}: {}", option, what);
  }
}

// Parses, sets threads and logging, runs, and turns errors into one `error:` line and an exit status: 0 done, 2 bad
// usage, 3 bad input, 4 requirement failed, 5 diverged, 128 + N stopped by signal N, 1 anything else. Ranks end with one
// status, and the first of them prints.
int run_tool(const Tool& tool, int argc, char** argv);

// The line (format "table") or JSON object (any other) of a tool that wrote a model: path, bytes, sha256, parameters,
// sparsity, and `extra` members.
std::string describe_written(const WrittenFile& file, const ModelSize& size, const nlohmann::json& extra, bool json);

}  // namespace hone::cli
