#include "cli/front.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "base/error.h"
#include "base/program.h"
#include "base/spelling.h"
#include "base/version.h"
#include "base/wrap.h"
#include "cli/brief_spin.h"
#include "cli/help.h"
#include "cli/manual.h"
#include "cli/result.h"
#include "cli/tools.h"

namespace hone::cli {
namespace {

namespace fs = std::filesystem;

std::string help() {
  const size_t width = static_cast<size_t>(help_width()), column = 12;
  std::string text = wrapped(front_summary, width, 0) +
                     "\nUsage: hone TOOL [ARGUMENTS]\n       hone help TOOL\n       hone --version\n\nTools:\n";
  for (const ToolName& tool : all_tools())
    text += fmt::format("  {:<10}{}\n", tool.name, wrapped(tool.summary, width - column, column));
  return text +
         "\nExample:\n  hone train --data corpus.txt --steps 2000 --output dense.h5\n"
         "  hone eval dense.h5 --data test.txt\n  hone help prune\n";
}

bool executable(const fs::path& path) {
  return access(path.c_str(), X_OK) == 0 && fs::is_regular_file(path);
}

// The folder of this program, wherever a link to it lies. Without /proc it is told by how the program was called.
fs::path own_folder(const char* invoked) {
  std::error_code failed;
  const fs::path self = fs::read_symlink("/proc/self/exe", failed);
  if (!failed) return self.parent_path();
  const std::string called = invoked ? invoked : "";
  if (called.find('/') != called.npos) return fs::path(called).parent_path();
  std::istringstream folders(std::getenv("PATH") ? std::getenv("PATH") : "");
  for (std::string folder; std::getline(folders, folder, ':');)
    if (executable(fs::path(folder) / called)) return folder;
  return "";
}

// Installed, a tool is hone-TOOL. In a build tree it is TOOL, a name that elsewhere is anybody's: it counts only where
// all the others lie beside it.
fs::path path_of(const std::string& tool, const fs::path& folder) {
  const fs::path installed = folder / ("hone-" + tool);
  if (executable(installed)) return installed;
  if (std::ranges::all_of(all_tools(), [&](const ToolName& known) { return executable(folder / known.name); }))
    return folder / tool;
  throw input_error("there is no '{}': the tool '{}' is not installed beside hone", installed.string(), tool);
}

void require_tool(const std::string& word) {
  const std::vector<std::string> names = tool_names();
  if (std::find(names.begin(), names.end(), word) != names.end()) return;
  if (word.starts_with('-')) throw usage_error("unknown option '{}' before the name of a tool; see hone --help", word);
  throw usage_error("'{}' is no tool of hone{}; see hone --help", word, did_you_mean(word, names));
}

// Returns only by an exception.
[[noreturn]] void start(const std::string& tool, char** arguments, const fs::path& folder) {
  require_tool(tool);
  const fs::path path = path_of(tool, folder);
  std::string name = "hone " + tool;  // as messages call it
  *arguments = name.data();
  execv(path.c_str(), arguments);
  throw input_error("cannot start '{}': {}", path.string(), std::strerror(errno));
}

int run_front(int argc, char** argv) {
  if (argc < 2) throw usage_error("no tool given: hone TOOL ARGUMENTS; see hone --help");
  const std::string first = argv[1];
  if (first == manual_flag && argc == 3) {
    write_front_manual(argv[2]);
    return 0;
  }
  if (first == "--version") {
    print_result(fmt::format("hone {}\n", version()));
    return 0;
  }
  if (first == "-h" || first == "--help" || (first == "help" && argc == 2)) {
    print_result(help());
    return 0;
  }
  const fs::path folder = own_folder(argv[0]);
  if (first != "help") start(first, argv + 1, folder);
  char option[] = "--help";
  char* arguments[] = {argv[1], option, nullptr};
  start(argv[2], arguments, folder);
}

}  // namespace

int front(int argc, char** argv) {
  spin_briefly(argv);
  set_program(argc > 0 ? argv[0] : nullptr, "hone");
  try {
    return run_front(argc, argv);
  } catch (const Error& error) {
    return fail(error.exit_status(), error.what());
  } catch (const std::exception& error) {
    return fail(1, error.what());
  }
}

}  // namespace hone::cli
