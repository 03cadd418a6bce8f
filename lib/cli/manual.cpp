#include "cli/manual.h"

#include <fmt/format.h>

#include <filesystem>
#include <sstream>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/version.h"
#include "cli/front_manual.h"
#include "cli/tools.h"
#include "dataset/utf8.h"

namespace hone::cli {
namespace {

namespace fs = std::filesystem;

// Text as roff prints it: every sign itself, those beyond ASCII by their numbers, and no line a request.
std::string plain(std::string_view text) {
  std::string result;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (static_cast<unsigned char>(c) >= 0x80) {
      const std::string_view character = text.substr(at, utf8_front(text.substr(at)).length);
      result += fmt::format("\\[u{:04X}]", code_point(character));
      at += character.size() - 1;
      continue;
    }
    if ((c == '.' || c == '\'') && (result.empty() || result.back() == '\n')) result += "\\&";
    switch (c) {
      case '\\':
        result += "\\e";
        break;
      case '-':
        result += "\\-";
        break;
      case '\'':
        result += "\\(aq";
        break;
      case '`':
        result += "\\(ga";
        break;
      case '^':
        result += "\\(ha";
        break;
      case '~':
        result += "\\(ti";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string bold(std::string_view text) {
  return "\\fB" + plain(text) + "\\fR";
}

std::string described(const ListedOption& option) {
  std::string names;
  for (const auto* list : {&option.names, &option.lowered})
    for (const std::string& name : *list) names += (names.empty() ? "" : ", ") + bold(name);
  const std::string value = option.value_shown();
  if (!value.empty()) names += " \\fI" + plain(std::string_view(value).substr(1)) + "\\fR";
  return ".TP\n" + names + "\n" + plain(option.description) + (option.required ? " (required)" : "") + ".\n";
}

std::string options_of(const std::vector<OptionGroup>& groups) {
  std::string text;
  for (const OptionGroup& group : groups) {
    if (!group.title.empty()) text += ".SS " + plain(group.title) + "\n";
    if (!group.purpose.empty()) text += plain(group.purpose) + ".\n";
    for (const ListedOption& option : group.options) text += described(option);
  }
  return text;
}

std::string example_of(const std::string& lines) {
  std::string text = ".EX\n", line;
  for (std::istringstream all(lines); std::getline(all, line);)
    text += plain(line.starts_with("  ") ? std::string_view(line).substr(2) : std::string_view(line)) + "\n";
  return text + ".EE\n";
}

void write(const fs::path& path, const std::string& text) {
  std::error_code failed;
  fs::create_directories(path.parent_path(), failed);
  if (failed) throw input_error("cannot make the folder '{}': {}", path.parent_path().string(), failed.message());
  write_text_file(path.string(), text);
}

void write_all(const fs::path& folder, const std::string& name, const std::string& man, const std::string& bash,
               const std::string& zsh, const std::string& fish) {
  write(folder / "man" / "man1" / (name + ".1"), man);
  write(folder / "bash-completion" / "completions" / name, bash);
  write(folder / "zsh" / "site-functions" / ("_" + name), zsh);
  write(folder / "fish" / "vendor_completions.d" / (name + ".fish"), fish);
}

}  // namespace

std::string man_head(const std::string& program, std::string_view summary) {
  std::string title = program;
  for (char& c : title) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  // One clause, as `man -k` shows it.
  const std::string_view clause = summary.substr(0, summary.find_first_of(".:,"));
  // Not adjusted: a line with a long list of names cannot be, of which troff would warn.
  return fmt::format(".TH {} 1 {} \"hone {}\" Hone\n.ad l\n.SH NAME\n{} \\- {}{}\n", plain(title), version_date(),
                     version(), plain(program),
                     static_cast<char>(std::tolower(static_cast<unsigned char>(clause.front()))),
                     plain(clause.substr(1)));
}

std::string man_tail() {
  std::string text =
      ".SH EXIT STATUS\n"
      ".TP\n0\nDone.\n"
      ".TP\n2\nBad usage.\n"
      ".TP\n3\nBad or corrupt input, or a file that cannot be read or written.\n"
      ".TP\n4\nA requirement failed.\n"
      ".TP\n5\nTraining diverged.\n"
      ".TP\n128 + N\nStopped by signal N, after saving what there was to save.\n"
      ".TP\n1\nAnything else.\n"
      ".SH ENVIRONMENT\n"
      ".TP\n.B HONE_THREADS\nThreads, where no option gives them.\n"
      ".TP\n.B HONE_ISA\nThe instruction set to use, at most: portable, avx2, avx512, avx512_bf16 or amx; on Arm "
      "portable,\nneon, neon_dot or neon_bf16.\n"
      ".SH SEE ALSO\n.BR hone (1)";
  for (const ToolName& tool : all_tools())
    text += fmt::format(",\n.BR {} (1)", plain(std::string("hone-") + tool.name));
  return text + "\n";
}

std::string man_page(const OptionList& program) {
  return man_head(program.name, program.summary) + ".SH SYNOPSIS\n" + bold(program.name) + " " +
         plain(usage_of(program.groups)) + " [\\fIOPTIONS\\fR]\n.SH DESCRIPTION\n" + plain(program.summary) +
         "\n.SH OPTIONS\n" + options_of(program.groups) + ".SH EXAMPLES\n" + example_of(program.example) + man_tail();
}

void write_manual(const std::string& folder, const OptionList& program) {
  write_all(folder, program.name, man_page(program), bash_completion(program), zsh_completion(program),
            fish_completion(program));
}

void write_front_manual(const std::string& folder) {
  write_all(folder, "hone", front_man_page(), front_bash_completion(), front_zsh_completion(), front_fish_completion());
}

}  // namespace hone::cli
