#include "cli/tool.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <stdio_ext.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <deque>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/cpu.h"
#include "base/error.h"
#include "base/log.h"
#include "base/program.h"
#include "base/quiet_thread.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "base/threads.h"
#include "base/units.h"
#include "base/version.h"
#include "cli/brief_spin.h"
#include "cli/glossary.h"
#include "cli/help.h"
#include "cli/manual.h"
#include "cli/ranks.h"
#include "cli/tools.h"
#include "comm/launch.h"
#include "comm/thread_ranks.h"
#include "kernels/awake.h"
#include "kernels/parallel.h"

namespace hone::cli {
namespace {

std::vector<int> parse_thread_counts(const std::string& text) {
  std::vector<int> values;
  try {
    for (const int64_t count : parse_counts(text)) {
      if (count > 4096) throw usage_error("{} is more than 4096", count);
      values.push_back(static_cast<int>(count));
    }
    require_each_once("the list", values);
  } catch (const Error& error) {
    throw usage_error("--threads: {}", error.what());
  }
  return values;
}

int parse_threads(const std::string& text) {
  const std::vector<int> values = parse_thread_counts(text);
  if (values.size() > 1) throw usage_error("--threads: '{}' is a list; this tool takes one number", text);
  return values.front();
}

// The number of a standard stream that the caller closed would go to the next file opened, and what is meant for the
// stream into that file. Reading such a stream finds nothing; writing results to it fails, writing messages does not.
void occupy_closed_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(stream, F_GETFD) < 0 && errno == EBADF)
      if (open("/dev/null", stream == STDERR_FILENO ? O_WRONLY : O_RDONLY) != stream)  // the lowest free number
        throw internal_error("standard stream {} is closed and cannot be replaced", stream);
}

// With the names of the tools as they are installed.
std::string example_of(const Tool& tool) {
  const std::string shown = std::string("  ") + tool.name + " ";
  std::string text, line;
  for (std::istringstream lines(tool.example); std::getline(lines, line); text += line + "\n")
    if (line.starts_with(shown)) line.replace(2, shown.size() - 3, program_name());
  return text;
}

void add_common(CLI::App& app, const Tool& tool, Common& common) {
  app.name(program_name());
  app.description(summary_of(tool.name));
  app.footer("Example:\n" + example_of(tool));
  app.formatter(help_formatter(help_width(), tool.required));
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.set_version_flag("--version", fmt::format("{} (hone {})", program_name(), version()),
                       "Print the version and exit");
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
    group
        ->add_option_function<std::string>(
            "-t,--threads", [&common](const std::string& text) { common.threads = parse_threads(text); }, threads)
        ->type_name("COUNT")
        ->default_str("0");
  add_seed(group, "--seed", common.seed, "Seed of every random choice");
  group->add_flag("-q,--quiet", common.quiet, "Print errors only");
  group->add_option("--log-level", common.log_level, "Least of the messages that are printed")
      ->check(one_of({"error", "warning", "info", "debug"}));
  group->add_flag("--dry-run", common.dry_run, "Check options and inputs, say what would be done, and write nothing");
  app.set_config("--config", "", "Read options from a TOML file; the command line wins, an unknown key is an error")
      ->type_name("FILE");
  app.config_formatter(config_reader(app, tool.name, tool.exclusions, &common.notes));
}

void apply(Common& common) {
  const LogLevel level = common.quiet ? LogLevel::error : log_level_named(common.log_level);
  set_log_level(common.ranks->rank() == 0 ? level : LogLevel::error);
  if (common.thread_counts.empty()) common.thread_counts = {common.threads};
  const RanksHere here = ranks_here(*common.ranks);
  common.ranks_on_machine = here.on_machine;
  const ThreadChoice choice = choose_threads(common.thread_counts.front(), here.on_cores);
  for (int& count : common.thread_counts) count = choose_threads(count, here.on_cores).count;
  common.threads = choice.count;
  kernels::set_threads(choice.count);
  log_info("hone {}: {} thread{} ({}), {}", version(), fmt::join(common.thread_counts, ", "),
           common.thread_counts == std::vector{1} ? "" : "s",
           choice.source == "asked for" ? "--threads" : choice.source, name_of(isa()));
  if (!here.described.empty()) log_info("{}", here.described);
  for (const std::string& note : common.notes) log_info("{}", note);
}

}  // namespace

namespace {

// What CLI11 found wrong, in one sentence of ours.
std::string sentence(const CLI::ParseError& error, const CLI::App& app) {
  if (dynamic_cast<const CLI::ExtrasError*>(&error)) {
    const std::vector<std::string> extras = app.remaining(true);
    for (const std::string& word : extras)
      if (word.starts_with('-') && word.size() > 1) {
        const std::string name = word.substr(0, word.find('='));
        return fmt::format("unknown option '{}'{}", name, did_you_mean(name, long_names(app)));
      }
    return fmt::format("'{}' is one argument too many", extras.empty() ? "" : extras.front());
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error)) {
    const std::string text = error.what(), name = text.substr(0, text.find(':'));
    for (const CLI::Option* option : all_options(app))
      if (option->get_name() == name)
        return option->count() > 1 ? fmt::format("{} is given {} times and takes one value", name, option->count())
                                   : fmt::format("{} needs a value", name);
  }
  return error.what();
}

// A value that is empty is a variable of the shell that was not set, more often than a wish. Texts may be empty.
void refuse_empty_values(const CLI::App& app) {
  constexpr std::string_view texts[] = {"--prompt", "--stop", "--tokenize"};
  for (const CLI::Option* option : all_options(app)) {
    const std::string name = option->get_positional() ? option->get_name() : option->get_name(false, false);
    if (option->get_items_expected_max() == 0 || std::ranges::find(texts, name) != std::end(texts)) continue;
    for (const std::string& value : option->results())
      if (value.empty()) throw usage_error("{} is given an empty value; leave it out, or give one", name);
  }
}

// The command line, and the files it names, into options; what is to be done afterwards. Nothing where --help or
// --version was asked for and printed.
bool parse(CLI::App& app, int argc, char** argv, Common& common) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    print_result(app.help());
    return false;
  } catch (const CLI::CallForVersion& version) {
    print_result(std::string(version.what()) + "\n");
    return false;
  } catch (const CLI::FileError&) {
    refuse_several_files(app);
    throw input_error("--config '{}' cannot be read; it names a TOML file", app.get_config_ptr()->as<std::string>());
  } catch (const CLI::ParseError& error) {
    throw usage_error("{}", sentence(error, app));
  }
  refuse_empty_values(app);
  if (app.get_config_ptr()->count() > 0) {
    common.config = app.get_config_ptr()->as<std::string>();
    common.arguments = spelled_out(app);
  }
  return true;
}

// Runs the tool once a rank, each on a thread of its own with a part of the threads. Each reads the options for itself: it
// may change what it was told. Returns the status of the lowest rank that did not succeed.
int run_as_threads(const Tool& tool, const Common& common, int count) {
  struct Rank {
    CLI::App app;
    Common common;
    std::function<int()> run;
    int status = 0;
  };
  if (kernels::threads_are_bound())
    throw usage_error(
        "with OMP_PROC_BIND or OMP_PLACES, ranks that are threads would all run on one core: unset them, or "
        "start the ranks by mpirun");
  std::deque<Rank> ranks(static_cast<size_t>(count));
  for (Rank& rank : ranks) {
    add_common(rank.app, tool, rank.common);
    rank.run = tool.setup(rank.app, rank.common);
    rank.app.parse(std::vector<std::string>(common.arguments.rbegin(), common.arguments.rend()));
    rank.common = common;
    rank.common.threads = std::max(1, common.threads / count);
    rank.common.thread_counts = {rank.common.threads};
    rank.common.ranks_on_machine = count;
  }
  const int threads = ranks.front().common.threads;
  kernels::set_threads(threads);
  log_info("{} ranks in this process, with {} each", count, counted(threads, "thread"));
  run_thread_ranks(count, [&](const std::shared_ptr<Communicator>& communicator) {
    const QuietThread others(communicator->rank() > 0);
    kernels::adopt_threads();
    Rank& rank = ranks[static_cast<size_t>(communicator->rank())];
    rank.common.ranks = communicator;
    rank.status = rank.run();
  });
  const auto failed = std::ranges::find_if(ranks, [](const Rank& rank) { return rank.status != 0; });
  return failed == ranks.end() ? 0 : failed->status;
}

struct Outcome {
  int status = 0;
  std::string message = {};  // of what failed; may be empty where that was said already
};

// Runs the tool in this process.
Outcome outcome_of(const Tool& tool, int argc, char** argv, Common& common) {
  bool parsed = false;
  CLI::App app;
  try {
    occupy_closed_streams();
    if (tool.ranks)
      common.ranks = tool.ranks();
    else
      refuse_ranks(tool.name);
    if (common.ranks->rank() > 0) silence_rank();
    add_common(app, tool, common);
    const auto run = tool.setup(app, common);
    if (argc == 3 && argv[1] == manual_flag) {
      set_program(nullptr, std::string("hone-") + tool.name);
      write_manual(argv[2],
                   {program_name(), summary_of(tool.name), example_of(tool), listed_groups(app, tool.required)});
      return {};
    }
    if (!parse(app, argc, argv, common)) return {};
    parsed = true;
    install_stop_handlers();
    std::signal(SIGXFSZ, SIG_IGN);  // a file that grows beyond a limit is an error that says so
    apply(common);
    if (tool.ranks_of && common.ranks->size() == 1)
      if (const int count = tool.ranks_of(app.get_option("--parallel")->as<std::string>()); count > 1)
        return {run_as_threads(tool, common, count)};
    return {run()};
  } catch (const Stopped& stopped) {
    __fpurge(stdout);  // part of a result, for a reader that may never come
    return {stopped.exit_status(), stopped.what()};
  } catch (const Error& error) {
    const bool usage = !parsed && error.kind() == ErrorKind::usage;
    return {error.exit_status(),
            with_options(error.what(), app) + (usage ? fmt::format("; see {} --help", program_name()) : "")};
  } catch (const std::bad_alloc&) {
    return {1, "not enough memory; use a smaller model, batch or context"};
  } catch (const std::exception& error) {
    return {1, error.what()};
  }
}

}  // namespace

int run_tool(const Tool& tool, int argc, char** argv) {
  spin_briefly(argv);
  set_program(argc > 0 ? argv[0] : nullptr, tool.name);
  Common common;
  common.arguments.assign(argv + std::min(argc, 1), argv + argc);
  const Outcome outcome = outcome_of(tool, argc, argv, common);
  if (common.ranks->size() == 1 && launch().rank > 0) {  // refused, with all others
    let_first_rank_speak();
    return outcome.status;
  }
  return common.ranks->leave(outcome.status, outcome.message, [&](const std::string& message) {
    if (!message.empty()) fail(outcome.status, message);
  });
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
