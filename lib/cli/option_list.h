// A tool's options as data: what --help, man pages and completions are made of.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace hone::cli {

struct ListedOption {
  std::vector<std::string> names;    // "-t", "--threads"; of a positional its name in capitals
  std::vector<std::string> lowered;  // what lowers a flag: "--no-speed"
  std::string value;                 // "COUNT", "FILE", "bf16|f32"; nothing of a flag
  std::vector<std::string> choices;  // of a value that is one of some names
  std::string standard;              // the value where none is given, as a person would type it, or nothing
  std::string description;
  bool positional = false, required = false;
  bool many = false;     // takes any number of values behind one name
  bool several = false;  // or may be repeated

  bool takes_value() const { return positional || !value.empty(); }
  bool takes_file() const;          // or a folder
  std::string value_shown() const;  // " COUNT=4", " FILE ...", as --help has it behind the names
};

struct OptionGroup {
  std::string title, purpose;  // no title: those of the tool itself, above all groups
  std::vector<ListedOption> options;
};

struct OptionList {
  std::string name, summary;  // name as installed: "hone-eval"
  std::string example;        // lines of shell, each beginning with two blanks
  std::vector<OptionGroup> groups;
};

// `required` names options that a tool demands though the parser does not.
ListedOption listed(const CLI::Option& option, const std::vector<std::string>& required);

std::vector<OptionGroup> listed_groups(const CLI::App& app, const std::vector<std::string>& required);

// "[MODEL...] --data FILE": what a call needs, before its options.
std::string usage_of(const std::vector<OptionGroup>& groups);

}  // namespace hone::cli
