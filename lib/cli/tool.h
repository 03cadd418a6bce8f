// What all executables share: common options, configuration files, exit statuses.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

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
  std::string config;                  // --config
  std::vector<std::string> arguments;  // of the command line, for the lineage
};

struct Tool {
  const char* name;
  const char* summary;  // one sentence
  const char* example;  // lines of shell, shown under --help
  // Adds the tool's options (in option groups) and returns what to run after parsing; its result is the exit status.
  std::function<std::function<int()>(CLI::App& app, const Common& common)> setup;
  bool many_threads = false;  // --threads takes a list: 1,2
};

// Parses, sets threads and logging, runs, and turns errors into one `error:` line and an exit status: 0 done, 2 bad
// usage, 3 bad input, 4 requirement failed, 5 diverged, 128 + N stopped by signal N, 1 anything else.
int run_tool(const Tool& tool, int argc, char** argv);

// A list of counts with commas between: "128,512", "1k,4k". Repeating the option adds to the list.
CLI::Option* add_counts(CLI::App* app, const std::string& names, std::vector<int64_t>& values,
                        const std::string& description);

// Options with units. The value shown as default in --help is the text that a person would type.
CLI::Option* add_count(CLI::App* app, const std::string& names, int64_t& value,
                       const std::string& description);  // 2000, 10M
CLI::Option* add_bytes(CLI::App* app, const std::string& names, int64_t& value,
                       const std::string& description);  // 4MiB
CLI::Option* add_fraction(CLI::App* app, const std::string& names, double& value,
                          const std::string& description);  // 0.2, 20%
// The same without a default.
CLI::Option* add_count(CLI::App* app, const std::string& names, std::optional<int64_t>& value,
                       const std::string& description);
CLI::Option* add_fraction(CLI::App* app, const std::string& names, std::optional<double>& value,
                          const std::string& description);

// Writes to stdout and flushes. Throws Error(input) when that fails (a full disk, a closed pipe).
void print_result(const std::string& text);

// The line (format "table") or JSON object (any other) of a tool that wrote a model: path, bytes, sha256, parameters,
// sparsity, and `extra` members.
std::string describe_written(const WrittenFile& file, const ModelSize& size, const nlohmann::json& extra, bool json);

}  // namespace hone::cli
