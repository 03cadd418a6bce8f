#include "cli/generate_options.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/kind_name.h"
#include "base/log.h"
#include "base/stop.h"
#include "base/target.h"
#include "base/text_output.h"
#include "cli/effects.h"
#include "cli/precision.h"
#include "dataset/text_file.h"
#include "model/exit_calibration.h"

namespace hone::cli {
namespace {

void add_prompts(CLI::App& app, GenerateOptions& o) {
  auto* group = app.add_option_group(
      "Prompt", "Without any of these: standard input; on a terminal each line that is typed, until Ctrl-D");
  // One value each, so that a model may follow and a prompt in brackets is no list.
  auto* prompt =
      group
          ->add_option("--prompt", o.prompts, "Text to continue; repeat it for several. An empty one begins a document")
          ->allow_extra_args(false)
          ->type_name("TEXT");
  auto* file = group
                   ->add_option("--prompt-file", o.prompt_file,
                                "Read the prompt from a file; - is standard input. A line end at its end is dropped")
                   ->type_name("FILE");
  auto* lines = group->add_flag("--lines", o.lines,
                                "Each line of the file or of standard input is a prompt; empty lines are skipped");
  prompt->excludes(file)->excludes(lines);
  for (const Medium* medium : all_media())
    group
        ->add_option(
            fmt::format("--{}", medium->name), o.files[place_of(*medium)],
            fmt::format("{} before the prompt, of a model that takes {}; repeat it", medium->file, medium->plural))
        ->allow_extra_args(false)
        ->type_name("FILE");
}

void add_sampling(CLI::App& app, GenerateOptions& o) {
  auto* group = app.add_option_group("Sampling");
  add_count(group, "-n,--tokens", o.tokens, "Tokens to generate at most, for each prompt");
  add_number(group, "--temperature", o.temperature,
             "Below 1: likelier tokens; above: more surprising ones; 0: always the most probable", {.least = 0});
  add_count(group, "--top-k", o.top_k, "Choose among this many most probable tokens; 0: all");
  add_number(group, "--top-p", o.top_p, "Choose among the fewest tokens that have this much probability together",
             {.above = 0, .most = 1});
  add_number(group, "--repetition-penalty", o.repetition_penalty, "Above 1: tokens that occurred become less probable",
             {.above = 0});
  group->add_option("--stop", o.stops, "End before this text; repeat it for several")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  group->add_flag("--ignore-end", o.ignore_end, "Go on where the model would end the document");
}

void add_draft(CLI::App& app, GenerateOptions& o) {
  auto* group = app.add_option_group("Drafts", "Tokens that are guessed, and read by the model all at once");
  group
      ->add_option("--draft", o.draft,
                   fmt::format("Who guesses: {}, or a smaller model of the same tokenizer. The text stays the model's",
                               fmt::join(draft_kinds(), ", ")))
      ->type_name("KIND|FILE");
  add_count(group, "--draft-tokens", o.draft_tokens, "Guess at most this many; fewer where few are accepted",
            {.least = 1, .most = most_drafted});
  add_number(group, "--draft-min-probability", o.draft_min_probability,
             "Stop guessing before a token that the guessing model gives less", {.least = 0, .most = 1});
}

void add_exits(CLI::App& app, GenerateOptions& o) {
  auto* group = app.add_option_group("Exits", "Of models that were trained with --exits: how deep tokens go");
  group
      ->add_option(
          "--exit", o.exit,
          fmt::format("A token ends at the first exit that is sure: {}, or calibrated (by eval)", exit_forms()))
      ->type_name("RULE");
  add_count(group, "--max-depth", o.max_depth, "Use the first layers alone, up to an exit; 0: all");
  group
      ->add_option("--exit-fill", o.exit_fill,
                   "Keys and values of layers that a token left out, once a later one needs them: exact (computed for "
                   "all such tokens at once) or propagated (from what the token left with)")
      ->check(one_of({"exact", "propagated"}));
  group
      ->add_option("--report", o.report,
                   "JSON file with how deep each token went, or with --draft what was drafted and accepted, by prompt")
      ->type_name("FILE");
  group->add_flag("--force", o.force, "Replace a report or output that exists, and begin an interrupted output anew");
}

}  // namespace

void GenerateOptions::add(CLI::App& app) {
  app_ = &app;
  app.add_option("MODEL", model, "Model file")->required();
  add_prompts(app, *this);
  add_sampling(app, *this);
  add_draft(app, *this);
  add_exits(app, *this);
  auto* output = app.add_option_group("Output");
  output
      ->add_option("--format", format,
                   "text as it comes; or json, jsonl or csv with prompt, text, tokens and finish_reason")
      ->check(one_of({"text", "json", "jsonl", "csv"}));
  output->add_flag("--echo", echo, "Print the prompt before its continuation (text only)");
  output->add_flag("--stats", stats, "Print the speed of each continuation to standard error");
  auto* execution = app.add_option_group("Execution");
  add_precision(execution, precision);
  low_bit.add(execution);
  add_count(execution, "--prefill-chunk", prefill_chunk, "Tokens of the prompt that go through the model at once",
            size_range);
}

GenerateSettings GenerateOptions::settings() const {
  if (!parallel.empty() && !draft.empty())
    throw usage_error("--parallel does not go with --draft: write in one process");
  if (lines && !prompts.empty())
    throw usage_error("--lines reads prompts from a file or standard input, not from --prompt");
  if (echo && format != "text")
    throw usage_error("--echo is for --format text; {} has the prompt beside the text", format);
  if (temperature == 0 && (top_k > 0 || top_p < 1))
    log_warning("{} no effect: --temperature 0 always takes the most probable token", top_k > 0 && top_p < 1
                                                                                          ? "--top-k and --top-p have"
                                                                                      : top_k > 0 ? "--top-k has"
                                                                                                  : "--top-p has");
  for (const std::string& stop : stops)
    if (stop.empty()) throw usage_error("--stop needs a text, not an empty one");
  GenerateSettings s;
  s.tokens = tokens;
  s.sampling = {temperature, top_k, top_p, repetition_penalty};
  check(s.sampling);
  s.stops = stops;
  s.ignore_end = ignore_end;
  s.prefill_chunk = prefill_chunk;
  low_bit.check(precision);
  s.type = type_of(precision);
  s.code = low_bit.code();
  const std::string with_draft = fmt::format("with --draft {}", first_word(draft));
  warn_of_idle(*app_, {{"--draft-tokens", draft.empty(), "without --draft"},
                       {"--draft-min-probability", draft.empty(), "without --draft"},
                       {"--draft-min-probability", !draft_knows_probabilities(draft), with_draft.c_str()}});
  if (!draft.empty()) for_option("--draft", [&] { check_draft_name(draft); });
  check_exits();
  return s;
}

void GenerateOptions::check_exits() const {
  if (!draft.empty() && leaves_early())
    throw usage_error("--draft keeps the text of all layers, {} does not; give one of them",
                      exit.empty() ? "--max-depth" : "--exit");
  if (!exit.empty() && exit != calibrated_rule) for_option("--exit", [&] { parse_exit_rule(exit); });
  warn_of_idle(*app_, {{"--exit-fill", exit.empty(), "without --exit"}});
  if (report.empty()) return;
  if (!leaves_early() && draft.empty())
    throw usage_error(
        "--report says how deep tokens went, or what became of drafts; give --exit, --max-depth or --draft");
  require_text_writable(report, force);
  require_distinct({{"--report", report}}, {{"MODEL", model}, {"--prompt-file", prompt_file}});
}

ExitSettings GenerateOptions::exits(const Model& file) const {
  ExitSettings s;
  if (!exit.empty()) s.rule = exit_rule_of(exit, file.lineage, model);
  s.max_depth = max_depth;
  s.filling = exit_fill == "exact" ? Session::Filling::exact : Session::Filling::propagated;
  check(s, file.transformer->config());
  return s;
}

namespace {

std::string read_stdin() {
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = ::read(STDIN_FILENO, buffer, sizeof buffer);
    check_stop();
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw input_error("cannot read standard input: {}", std::strerror(errno));
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
  }
}

void drop_line_end(std::string& text) {
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
}

}  // namespace

bool GenerateOptions::reads_standard_input() const {
  return prompts.empty() && (prompt_file.empty() || prompt_file == "-");
}

bool GenerateOptions::typed() const {
  return reads_standard_input() && isatty(STDIN_FILENO);
}

std::vector<std::pair<const Medium*, std::string>> GenerateOptions::media() const {
  std::vector<std::pair<const Medium*, std::string>> all;
  std::vector<size_t> taken(files.size());
  const auto take = [&](const Medium* medium) {
    const size_t m = place_of(*medium);
    if (taken[m] < files[m].size()) all.emplace_back(medium, files[m][taken[m]++]);
  };
  for (const CLI::Option* option : app_->parse_order())
    for (const Medium* medium : all_media())
      if (option->check_lname(medium->name)) take(medium);
  for (const Medium* medium : all_media())  // of a configuration file
    while (taken[place_of(*medium)] < files[place_of(*medium)].size()) take(medium);
  return all;
}

std::vector<std::string> GenerateOptions::read_prompts() const {
  if (!prompts.empty()) return prompts;
  const bool from_stdin = prompt_file.empty() || prompt_file == "-";
  std::string text = text_of_bytes(from_stdin ? read_stdin() : read_text_file(prompt_file),
                                   from_stdin ? "standard input" : prompt_file);
  if (!lines) {
    drop_line_end(text);
    return {text};
  }
  std::vector<std::string> result;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    drop_line_end(line);
    if (!line.empty()) result.push_back(std::move(line));
    begin = end + 1;
  }
  if (result.empty())
    throw input_error("{} has no line with a prompt",
                      prompt_file.empty() || prompt_file == "-" ? "standard input" : "'" + prompt_file + "'");
  return result;
}

}  // namespace hone::cli
