// Options that a call gives and that have no effect in it: said, so that nobody believes otherwise.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace hone::cli {

struct Idle {
  std::string option;  // a long name, or that of a positional
  bool idle;           // in this call
  std::string why;     // "without --log", "with --kernels"
};

// On the command line or in the file of --config.
bool given(const CLI::App& app, const std::string& option);

// A warning for each `why` of the idle options that were given: "--batch and --lr have no effect without steps".
void warn_of_idle(const CLI::App& app, const std::vector<Idle>& options);

// The same for a whole group of options.
void warn_of_idle_group(const CLI::App& app, const std::string& group, bool idle, const char* why);

}  // namespace hone::cli
