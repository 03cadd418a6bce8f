#include "cli/tool.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <stdio_ext.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/cpu.h"
#include "base/error.h"
#include "base/log.h"
#include "base/stop.h"
#include "base/threads.h"
#include "base/units.h"
#include "base/version.h"
#include "kernels/parallel.h"

namespace hone::cli {
namespace {

int fail(int status, std::string message) {
  // One line, whatever a library put into its message.
  while (!message.empty() && message.back() == '\n') message.pop_back();
  for (char& c : message)
    if (c == '\n' || c == '\r') c = ' ';
  set_log_level(LogLevel::error);
  log_line(LogLevel::error, "error: " + message);
  return status;
}

std::vector<int64_t> parse_counts(const std::string& text) {
  std::vector<int64_t> values;
  std::istringstream items(text);
  for (std::string item; std::getline(items, item, ',');) values.push_back(parse_count(item));
  if (values.empty() || text.ends_with(',')) throw usage_error("'{}' is not a list of numbers like 128,512", text);
  return values;
}

std::vector<int> parse_thread_counts(const std::string& text) {
  std::vector<int> values;
  for (const int64_t count : parse_counts(text)) {
    if (count > 4096) throw usage_error("--threads: {} is more than 4096", count);
    values.push_back(static_cast<int>(count));
  }
  return values;
}

// The number of a standard stream that the caller closed would go to the next file opened, and what is meant for the
// stream into that file. Reading such a stream finds nothing; writing results to it fails, writing messages does not.
void occupy_closed_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(stream, F_GETFD) < 0 && errno == EBADF)
      if (open("/dev/null", stream == STDERR_FILENO ? O_WRONLY : O_RDONLY) != stream)  // the lowest free number
        throw internal_error("standard stream {} is closed and cannot be replaced", stream);
}

void add_common(CLI::App& app, const Tool& tool, Common& common) {
  app.description(tool.summary);
  app.footer(std::string("Example:\n") + tool.example);
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.set_version_flag("--version", fmt::format("{} (hone {})", tool.name, version()), "Print the version and exit");
  app.option_defaults()->always_capture_default();
  auto* group = app.add_option_group("Common");
  const std::string threads =
      "Threads; 0: HONE_THREADS, then OMP_NUM_THREADS, then the physical cores this process may use, within its CPU "
      "quota";
  if (tool.many_threads)
    group
        ->add_option_function<std::string>(
            "-t,--threads", [&common](const std::string& text) { common.thread_counts = parse_thread_counts(text); },
            threads + "; or a list: 1,2")
        ->join(',')
        ->type_name("COUNTS")
        ->default_str("0");
  else
    group->add_option("-t,--threads", common.threads, threads)->check(CLI::Range(0, 4096));
  group->add_option("--seed", common.seed, "Seed of every random choice");
  group->add_flag("-q,--quiet", common.quiet, "Print errors only");
  group->add_option("--log-level", common.log_level, "error, warning, info or debug");
  group->add_flag("--dry-run", common.dry_run, "Check options and inputs, say what would be done, and write nothing");
  app.set_config("--config", "", "Read options from a TOML file; the command line wins, an unknown key is an error");
  app.allow_config_extras(CLI::config_extras_mode::error);
}

void apply(Common& common) {
  set_log_level(common.quiet ? LogLevel::error : log_level_named(common.log_level));
  if (common.thread_counts.empty()) common.thread_counts = {common.threads};
  const ThreadChoice choice = choose_threads(common.thread_counts.front());
  for (int& count : common.thread_counts) count = choose_threads(count).count;
  common.threads = choice.count;
  kernels::set_threads(choice.count);
  log_info("hone {}: {} thread{} ({}), {}", version(), fmt::join(common.thread_counts, ", "),
           common.thread_counts == std::vector{1} ? "" : "s", choice.source, name_of(isa()));
}

}  // namespace

int run_tool(const Tool& tool, int argc, char** argv) {
  spin_briefly(argv);
  Common common;
  common.arguments.assign(argv + 1, argv + argc);
  try {
    occupy_closed_streams();
    CLI::App app;
    app.name(tool.name);
    add_common(app, tool, common);
    const auto run = tool.setup(app, common);
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& asked) {  // --help, --version
      return app.exit(asked, std::cout, std::cerr);
    } catch (const CLI::FileError& error) {
      return fail(static_cast<int>(ErrorKind::input), fmt::format("{}; see {} --help", error.what(), tool.name));
    } catch (const CLI::ParseError& error) {
      return fail(static_cast<int>(ErrorKind::usage), fmt::format("{}; see {} --help", error.what(), tool.name));
    }
    install_stop_handlers();
    std::signal(SIGXFSZ, SIG_IGN);  // a file that grows beyond a limit is an error that says so
    apply(common);
    return run();
  } catch (const Stopped& stopped) {
    __fpurge(stdout);  // part of a result, for a reader that may never come
    return fail(stopped.exit_status(), stopped.what());
  } catch (const Error& error) {
    return fail(error.exit_status(), error.what());
  } catch (const std::bad_alloc&) {
    return fail(1, "not enough memory; use a smaller model, batch or context");
  } catch (const std::exception& error) {
    return fail(1, error.what());
  }
}

namespace {

template <class Value, class Parse>
CLI::Option* add_parsed(CLI::App* app, const std::string& names, Value& value, const std::string& description,
                        const char* type, const std::string& shown, Parse parse) {
  const std::string label = names.substr(names.rfind(',') == std::string::npos ? 0 : names.rfind(',') + 1);
  auto* option = app->add_option_function<std::string>(
      names,
      [&value, parse, label](const std::string& text) {
        try {
          value = parse(text);
        } catch (const Error& error) {
          throw usage_error("{}: {}", label, error.what());
        }
      },
      description);
  option->type_name(type);
  option->default_str(shown);
  return option;
}

}  // namespace

CLI::Option* add_count(CLI::App* app, const std::string& names, int64_t& value, const std::string& description) {
  return add_parsed(app, names, value, description, "COUNT", fmt::format("{}", value), parse_count);
}

CLI::Option* add_counts(CLI::App* app, const std::string& names, std::vector<int64_t>& values,
                        const std::string& description) {
  return add_parsed(app, names, values, description, "COUNTS", fmt::format("{}", fmt::join(values, ",")), parse_counts)
      ->join(',');
}

CLI::Option* add_bytes(CLI::App* app, const std::string& names, int64_t& value, const std::string& description) {
  return add_parsed(app, names, value, description, "BYTES", fmt::format("{}", value), parse_bytes);
}

CLI::Option* add_fraction(CLI::App* app, const std::string& names, double& value, const std::string& description) {
  return add_parsed(app, names, value, description, "FRACTION", fmt::format("{}", value), parse_fraction);
}

CLI::Option* add_count(CLI::App* app, const std::string& names, std::optional<int64_t>& value,
                       const std::string& description) {
  return add_parsed(app, names, value, description, "COUNT", "", parse_count);
}

CLI::Option* add_fraction(CLI::App* app, const std::string& names, std::optional<double>& value,
                          const std::string& description) {
  return add_parsed(app, names, value, description, "FRACTION", "", parse_fraction);
}

void print_result(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    check_stop();
    throw input_error("cannot write to standard output");
  }
}

std::string describe_written(const WrittenFile& file, const ModelSize& size, const nlohmann::json& extra, bool json) {
  if (json) {
    nlohmann::ordered_json object = {{"output", file.path},
                                     {"bytes", file.bytes},
                                     {"sha256", file.sha256},
                                     {"parameters", size.parameters},
                                     {"nonzero_parameters", size.nonzero_parameters},
                                     {"sparsity", size.sparsity()},
                                     {"zero_fraction", size.zero_fraction()}};
    for (const auto& [key, value] : extra.items()) object[key] = value;
    return object.dump() + "\n";
  }
  return fmt::format("{}  {}  {} parameters, {} sparse  sha256 {}\n", file.path,
                     format_bytes(static_cast<double>(file.bytes)), format_count(static_cast<double>(size.parameters)),
                     format_percent(size.sparsity(), 1), file.sha256);
}

}  // namespace hone::cli
