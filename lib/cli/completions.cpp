#include <fmt/format.h>
#include <fmt/ranges.h>

#include <functional>

#include "cli/manual.h"
#include "cli/shell_words.h"

namespace hone::cli {
namespace {

void for_each_option(const OptionList& program, const std::function<void(const ListedOption&)>& act) {
  for (const OptionGroup& group : program.groups)
    for (const ListedOption& option : group.options) act(option);
}

std::vector<std::string> spellings(const ListedOption& option) {
  std::vector<std::string> names = option.names;
  names.insert(names.end(), option.lowered.begin(), option.lowered.end());
  return names;
}

// A menu has a line for each option: of its description the first clause.
std::string clause(const std::string& description) {
  return description.substr(0, description.find_first_of(";:(")).substr(0, description.find(". "));
}

std::string function_name(const OptionList& program) {
  return "_" + replaced(program.name, "-", "_");
}

// A character that means something in the brackets of _arguments.
std::string in_brackets(std::string text) {
  for (const char* c : {"\\", "[", "]", ":"}) text = replaced(std::move(text), c, std::string("\\") + c);
  return text;
}

std::string zsh_value(const ListedOption& option) {
  if (!option.takes_value()) return "";
  const std::string label = in_brackets(option.positional ? option.names.front() : option.value);
  if (!option.choices.empty()) return fmt::format(":{}:({})", label, fmt::join(option.choices, " "));
  return fmt::format(":{}:{}", label, option.takes_file() ? "_files" : " ");
}

}  // namespace

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size()) text.replace(at, from.size(), to);
  return text;
}

std::string shell_quoted(std::string_view text) {
  return "'" + replaced(std::string(text), "'", "'\\''") + "'";
}

// Readline completes names of files where the function finds nothing; not behind what takes a number.
std::string bash_completion(const OptionList& program) {
  std::string cases, files, others, all;
  for_each_option(program, [&](const ListedOption& option) {
    if (option.positional) return;
    const std::string names = fmt::format("{}", fmt::join(spellings(option), "|"));
    all += fmt::format("{} ", fmt::join(spellings(option), " "));
    if (!option.choices.empty())
      cases += fmt::format(
          "    {})\n      mapfile -t COMPREPLY < <(compgen -W {} -- \"$current\")\n      return\n      ;;\n", names,
          shell_quoted(fmt::format("{}", fmt::join(option.choices, " "))));
    else if (option.takes_value())
      (option.takes_file() ? files : others) += (option.takes_file() ? files : others).empty() ? names : "|" + names;
  });
  if (!files.empty()) cases += fmt::format("    {}) return ;;\n", files);
  if (!others.empty())
    cases += fmt::format("    {})\n      compopt +o default 2>/dev/null\n      return\n      ;;\n", others);
  all.pop_back();
  return fmt::format(R"(# bash completion for {0}.

{1}() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}}
  COMPREPLY=()
  if [[ $current == = ]]; then # --option=value is three words
    current=
  elif [[ $before == = ]]; then
    before=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  case $before in
{2}  esac
  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W {3} -- "$current")
  fi
}}
complete -o default -F {1} {0}
)",
                     program.name, function_name(program), cases, shell_quoted(all));
}

std::string zsh_completion(const OptionList& program) {
  std::string text = fmt::format("#compdef {}\n\n_arguments -S", program.name);
  const auto add = [&](const std::string& spec) { text += " \\\n  " + shell_quoted(spec); };
  for_each_option(program, [&](const ListedOption& option) {
    if (option.positional) {
      add((option.many ? "*" : option.required ? "" : ":") + zsh_value(option));
      return;
    }
    const std::vector<std::string> names = spellings(option);
    // Each excludes the others and itself, unless it may be repeated.
    const std::string before = option.several ? "*" : fmt::format("({})", fmt::join(names, " "));
    for (const std::string& name : names) {
      const std::string assigned = option.value.empty() ? "" : name.starts_with("--") ? "=" : "+";
      add(before + name + assigned + "[" + in_brackets(clause(option.description)) + "]" + zsh_value(option));
    }
  });
  return text + "\n";
}

std::string fish_completion(const OptionList& program) {
  std::string text = fmt::format("# fish completion for {}.\n\n", program.name);
  for_each_option(program, [&](const ListedOption& option) {
    if (option.positional) return;
    text += "complete -c " + program.name;
    for (const std::string& name : spellings(option))
      text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
    if (!option.choices.empty())
      text += fmt::format(" -x -a {}", shell_quoted(fmt::format("{}", fmt::join(option.choices, " "))));
    else if (!option.value.empty())
      text += option.takes_file() ? " -r -F" : " -x";
    text += " -d " + shell_quoted(clause(option.description)) + "\n";
  });
  return text;
}

}  // namespace hone::cli
