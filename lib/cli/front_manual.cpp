#include "cli/front_manual.h"

#include <fmt/format.h>

#include "cli/front.h"
#include "cli/shell_words.h"
#include "cli/tools.h"

namespace hone::cli {
namespace {

std::string names() {
  std::string text;
  for (const ToolName& tool : all_tools()) text += std::string(tool.name) + " ";
  return text;
}

}  // namespace

std::string front_man_page() {
  std::string text = man_head("hone", front_summary) +
                     ".SH SYNOPSIS\n\\fBhone\\fR \\fITOOL\\fR [\\fIARGUMENTS\\fR]\n.br\n"
                     "\\fBhone help\\fR [\\fITOOL\\fR]\n.br\n\\fBhone\\fR \\-\\-help | \\-\\-version\n"
                     ".SH DESCRIPTION\nStarts one of the tools with the arguments that follow its name: "
                     "\\fBhone train\\fR is \\fBhone\\-train\\fR.\n.SH TOOLS\n";
  for (const ToolName& tool : all_tools())
    text += fmt::format(".TP\n\\fB{}\\fR\n{}\n", tool.name, replaced(tool.summary, "-", "\\-"));
  return text +
         ".SH OPTIONS\n.TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nPrint the tools, a line each, and exit.\n"
         ".TP\n\\fB\\-\\-version\\fR\nPrint the version and exit.\n"
         ".SH EXAMPLES\n.EX\nhone train \\-\\-data corpus.txt \\-\\-steps 2000 \\-\\-output dense.h5\n"
         "hone eval dense.h5 \\-\\-data test.txt\nhone help prune\n.EE\n" +
         man_tail();
}

// Behind a tool's name its own completion does the work, with `hone TOOL` made one word.
std::string front_bash_completion() {
  return replaced(R"(# bash completion for hone.

_hone() {
  if ((COMP_CWORD == 1)) || [[ ${COMP_WORDS[1]} == help && COMP_CWORD -eq 2 ]]; then
    mapfile -t COMPREPLY < <(compgen -W "@NAMES@help --help --version" -- "${COMP_WORDS[COMP_CWORD]}")
    return
  fi
  local tool=${COMP_WORDS[1]}
  if ! declare -F "_hone_$tool" >/dev/null; then
    local file=${BASH_SOURCE[0]%/*}/hone-$tool
    [[ -r $file ]] || return
    # shellcheck disable=SC1090
    . "$file"
  fi
  COMP_WORDS=("hone-$tool" "${COMP_WORDS[@]:2}")
  COMP_CWORD=$((COMP_CWORD - 1))
  "_hone_$tool"
}
complete -o default -F _hone hone
)",
                  "@NAMES@", names());
}

std::string front_zsh_completion() {
  std::string tools;
  for (const ToolName& tool : all_tools())
    tools += fmt::format("    {}\n", shell_quoted(std::string(tool.name) + ":" + tool.summary));
  return replaced(R"(#compdef hone

local curcontext="$curcontext" state line
local -a tools
tools=(
@TOOLS@    'help:Shows how to use a tool'
)
_arguments -C '(- *)'{-h,--help}'[Print the tools, a line each, and exit]' '(- *)--version[Print the version and exit]' \
  '1:tool:->tool' '*::argument:->arguments'
case $state in
  tool) _describe -t tools tool tools ;;
  arguments)
    if [[ $words[1] == help ]]; then
      _describe -t tools tool tools
    elif (( $+functions[_hone-$words[1]] )); then
      service="hone-$words[1]"
      "_hone-$words[1]"
    fi
    ;;
esac
)",
                  "@TOOLS@", tools);
}

std::string front_fish_completion() {
  std::string text = R"~(# fish completion for hone.

function __hone_of_tool
    set -l words (commandline -opc)
    complete -C "hone-$words[2] "(string join ' ' -- (string escape -- $words[3..]))" "(commandline -ct)
end

complete -c hone -f
complete -c hone -n __fish_use_subcommand -s h -l help -d 'Print the tools, a line each, and exit'
complete -c hone -n __fish_use_subcommand -l version -d 'Print the version and exit'
complete -c hone -n __fish_use_subcommand -a help -d 'Shows how to use a tool'
)~";
  for (const ToolName& tool : all_tools())
    text +=
        fmt::format("complete -c hone -n __fish_use_subcommand -a {} -d {}\n", tool.name, shell_quoted(tool.summary));
  return text + fmt::format(
                    "complete -c hone -n '__fish_seen_subcommand_from help' -a '{}'\n"
                    "complete -c hone -n 'not __fish_use_subcommand; and not __fish_seen_subcommand_from help' -a "
                    "'(__hone_of_tool)'\n",
                    names());
}

}  // namespace hone::cli
