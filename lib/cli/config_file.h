// Configuration files: TOML with the names of options as keys, and a table for each tool; see docs/config.md.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace hone::cli {

// The values of an option that are in force: the command line's, else the file's; none where neither gives it.
using ValuesOf = std::function<std::vector<std::string>(const std::string& option)>;

// On the command line, `option` overrules `others` in the file, though the parser lets both stand.
struct Exclusion {
  std::string option;
  std::vector<std::string> others;
  std::function<bool(const ValuesOf& values)> where = {};  // whether these values exclude each other; empty: all do
};

// What reads the file of --config (CLI::App::config_formatter), once the command line is parsed: gives each option that
// the command line has neither given nor excluded its value. Keys of the table [tool] win over those above all tables.
// `exclusions` are those of Tool, beside CLI::Option::excludes. What the command line excludes is added to `notes`, a
// sentence each, which may be null.
// Throws Error(input) for what is no TOML, Error(usage) for keys and values that cannot be; both say file, line and
// key.
std::shared_ptr<CLI::Config> config_reader(CLI::App& app, std::string tool, std::vector<Exclusion> exclusions = {},
                                           std::vector<std::string>* notes = nullptr);

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
