// Configuration files: TOML with the names of options as keys, and a table for each tool; see docs/config.md.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

namespace hone::cli {

// What reads the file of --config (CLI::App::config_formatter), once the command line is parsed: gives each option that
// the command line has neither given nor excluded its value. Keys of the table [tool] win over those above all tables.
// `exclusions` are those of Tool, beside CLI::Option::excludes.
// Throws Error(input) for what is no TOML, Error(usage) for keys and values that cannot be; both say file, line and
// key.
std::shared_ptr<CLI::Config> config_reader(CLI::App& app, std::string tool,
                                           std::vector<std::vector<std::string>> exclusions = {});

// CLI11 2.1 takes one file, 2.4 reads them all. Throws Error(usage).
void refuse_several_files(CLI::App& app);

// The options in force, as a command line without the file that gave them: positionals first, then options in the order
// of --help.
std::vector<std::string> spelled_out(const CLI::App& app);

// All options of the app and of its groups, in the order of --help.
std::vector<const CLI::Option*> all_options(const CLI::App& app);

// "--steps", "--lr", …: all long names.
std::vector<std::string> long_names(const CLI::App& app);

}  // namespace hone::cli
