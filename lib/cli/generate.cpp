#include "cli/generate.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory_limit.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "base/units.h"
#include "cli/batch_options.h"
#include "cli/generate_options.h"
#include "cli/ranks.h"
#include "comm/standard_input.h"
#include "feed/parts_reader.h"
#include "measure/footprint.h"
#include "measure/speed.h"
#include "model/exits.h"
#include "model/verify_groups.h"
#include "report/late_texts.h"
#include "report/report.h"

namespace hone::cli {
namespace {

// Standard output, flushed with every piece: a reader at the other end of a pipe sees text as it comes.
class TextStream {
 public:
  // False where nobody reads any more.
  bool write(std::string_view text) {
    if (closed_ || text.empty()) return !closed_;
    last_ = text.back();
    if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return true;
    check_stop();
    if (errno != EPIPE) throw input_error("cannot write to standard output: {}", std::strerror(errno));
    closed_ = true;
    return false;
  }
  bool closed() const { return closed_; }
  bool at_line_start() const { return last_ == '\n'; }

 private:
  char last_ = '\n';
  bool closed_ = false;
};

// Whether a person sees standard output among what was typed or is said: only then a line end is ours to add. Open MPI,
// for one, redirects the standard output of its ranks through pseudo-terminals, into a file in the end.
bool at_terminal() {
  struct stat out = {}, other = {};
  if (!isatty(STDOUT_FILENO) || fstat(STDOUT_FILENO, &out) != 0) return false;
  for (const int stream : {STDIN_FILENO, STDERR_FILENO})
    if (isatty(stream) && fstat(stream, &other) == 0 && other.st_rdev == out.st_rdev) return true;
  return false;
}

std::string heading(std::string prompt) {
  constexpr size_t widest = 60;
  for (char& c : prompt)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  if (prompt.size() <= widest) return fmt::format("==> {} <==\n", prompt);
  size_t cut = widest;
  while (cut > 0 && (static_cast<unsigned char>(prompt[cut]) & 0xc0) == 0x80) --cut;  // not within a character
  return fmt::format("==> {}… <==\n", prompt.substr(0, cut));
}

class GenerateTool {
 public:
  GenerateTool(const GenerateOptions& options, const Common& common) : o_(options), common_(common) {}

  int run() {
    ranks_ = parallel_parts(o_.parallel, common_.ranks, "generate", common_.arguments);
    settings_ = o_.settings();
    if (ranks_ && o_.reads_standard_input()) share_standard_input(*ranks_.group);
    if (ranks_) together_.emplace();
    const bool typed = o_.typed();
    const std::vector<std::string> prompts = typed ? std::vector<std::string>() : o_.read_prompts();
    const Stopwatch watch;
    model_ = load_model(o_.model, {.defer = true}, nullptr, ranks_);
    verify_in_groups(model_);
    set_rounding(model_, o_.low_bit.rounding(o_.precision));
    ranks_.require_any(model_.transformer->config());
    tokenizer_ = make_tokenizer(model_.tokenizer);
    o_.low_bit.tell_of_activations(weight_forms(*model_.transformer));
    log_debug("'{}' read in {}", o_.model, format_duration(watch.seconds()));
    settings_.exits = o_.exits(model_);
    prepare_draft();
    std::vector<std::vector<int32_t>> ids;
    read_media();
    for (const std::string& prompt : prompts) ids.push_back(with_media(tokenizer_->encode(prompt)));
    check_lengths(ids);
    if (common_.dry_run && typed) {
      log_info("would continue each line that is typed by {} with '{}'", counted(o_.tokens, "token"), o_.model);
      return 0;
    }
    if (common_.dry_run) {
      log_info("would continue {} by {} each with '{}'", counted(prompts.size(), "prompt"), counted(o_.tokens, "token"),
               o_.model);
      return 0;
    }
    for (size_t i = 0; i < prompts.size() && !out_.closed(); ++i) one(prompts[i], i, prompts.size() > 1, ids[i]);
    if (typed) converse();
    if (o_.format == "json") print(Format::json);
    if (o_.format == "csv") print(Format::csv);
    if (o_.format == "text" && !out_.at_line_start() && at_terminal()) out_.write("\n");
    const int status = common_.ranks->rank() == 0 ? write_report() : 0;
    return out_.closed() ? 128 + SIGPIPE : status;
  }

 private:
  // A prompt a line, until the input ends. Empty lines are skipped, as --lines skips them.
  void converse() {
    log_info("type a prompt and Enter; Ctrl-D ends");
    size_t index = 0;
    for (std::string line; !out_.closed() && next_line(line);) {
      if (line.empty()) continue;
      const std::vector<int32_t> ids = with_media(tokenizer_->encode(line));
      check_lengths({ids});
      one(line, index++, false, ids);
      if (o_.format == "text" && !out_.at_line_start()) out_.write("\n");
    }
  }

  static bool next_line(std::string& line) {
    if (isatty(STDERR_FILENO) && log_level() >= LogLevel::info) std::fputs("> ", stderr);
    if (!std::getline(std::cin, line)) {
      if (isatty(STDERR_FILENO) && log_level() >= LogLevel::info) std::fputs("\n", stderr);
      return false;
    }
    if (line.ends_with('\r')) line.pop_back();
    return true;
  }

  // Once, before anything is generated: what the media of prompts are to the model.
  void read_media() {
    std::vector<ExamplePart> parts;
    for (const auto& [medium, path] : o_.media()) {
      if (model_.transformer->encoder_of(medium->name) == model_.transformer->config().encoders.size())
        throw usage_error("'{}' has no encoder for --{} '{}': it was trained without", o_.model, medium->name, path);
      parts.push_back(medium_part(*medium, path));
    }
    PartsReader(model_.transformer->config(), 0).read(parts, *tokenizer_, media_, {});
    if (!parts.empty() && settings_.draft.model)
      throw usage_error("--draft '{}': a model that drafts reads text alone, and no {}", o_.draft,
                        either_of(media_words(&Medium::plural)));
  }

  // Rows of the media, and the prompt behind them.
  std::vector<int32_t> with_media(const std::vector<int32_t>& ids) const {
    std::vector<int32_t> all = media_.ids;
    all.insert(all.end(), ids.begin(), ids.end());
    return all;
  }

  void prepare_draft() {
    if (o_.draft.empty()) return;
    draft_ = open_draft(o_.draft, model_, o_.draft_tokens, o_.draft_min_probability);
    settings_.draft = draft_.settings;
    settings_.draft_seed = common_.seed;
    warn_of_dear_draft(draft_, model_);
  }

  // Before anything is generated: a prompt that is too long, and once what to expect beyond the context.
  void check_lengths(const std::vector<std::vector<int32_t>>& ids) {
    const Config& config = model_.transformer->config();
    const int64_t most = max_positions(config);
    const bool goes_on = most > config.context;
    int64_t longest = 0;
    for (const std::vector<int32_t>& prompt : ids) longest = std::max(longest, static_cast<int64_t>(prompt.size()));
    if (longest > most)
      throw input_error("a prompt has {} tokens, the learned positions of '{}' end at {}; shorten the prompt", longest,
                        o_.model, most);
    if (o_.tokens > 0 && goes_on)
      require_memory_for(generation_footprint(ranks_.shape_of_one(config), 1, sum_of(longest, o_.tokens) - 1,
                                              o_.prefill_chunk, settings_.type, settings_.code),
                         "the continuation", "ask for fewer --tokens");
    if (longest + o_.tokens > config.context && goes_on && !std::exchange(warned_, true))
      log_warning("'{}' was made for {} tokens; prompt and continuation may reach {}, where it can lose the thread",
                  o_.model, config.context, longest + o_.tokens);
  }

  void one(const std::string& prompt, size_t index, bool several, const std::vector<int32_t>& ids) {
    const bool text = o_.format == "text";
    if (text && several) {
      if (index > 0) out_.write(out_.at_line_start() ? "\n" : "\n\n");
      out_.write(heading(prompt));
    }
    if (text && o_.echo) out_.write(prompt);
    // A stream for each prompt: the same prompt twice gives two continuations.
    const Random random(common_.seed, index == 0 ? "sampling" : fmt::format("sampling:{}", index));
    const Generated result = hone::generate(*model_.transformer, *tokenizer_, Input(ids, media_.parts), settings_,
                                            random, [&](std::string_view piece) { return !text || out_.write(piece); });
    if (result.finish == Finish::context)
      log_warning("'{}' has {} learned positions: the text ends after {}", o_.model,
                  model_.transformer->config().context, counted(result.tokens.size(), "token"));
    if (!o_.report.empty()) report_on(prompt, result);
    if (!text) add_row(prompt, result);
    if (o_.stats) print_stats(result);
  }

  void add_row(const std::string& prompt, const Generated& result) {
    Row row;
    row.set("prompt", prompt)
        .set("text", result.text)
        .set("tokens", result.tokens.size())
        .set("finish_reason", name_of(result.finish))
        .set("prompt_tokens", result.prompt_tokens);
    if (!o_.draft.empty()) set_drafts(row, result);
    if (settings_.exits) row.set("mean_depth", result.mean_depth()).set("depths", Cell(result.depths));
    Report& report = o_.format == "jsonl" ? (report_ = Report()) : report_;
    report.add(row);
    report.common().set("model", o_.model).set("temperature", o_.temperature).set("seed", common_.seed);
    if (o_.format == "jsonl") print(Format::jsonl);
  }

  static void set_drafts(Row& row, const Generated& r) {
    row.set("steps", r.steps).set("drafted_tokens", r.drafted).set("verified_tokens", r.verified);
    row.set("accepted_tokens", r.accepted);
  }

  // The beginning of a row of --report: of a prompt, or of all, which has none.
  static Row row_of(const std::string* prompt) {
    Row row;
    row.set("row", prompt ? "prompt" : "total");
    if (prompt) row.set("prompt", *prompt);
    return row;
  }

  static Row draft_row(const std::string* prompt, int64_t tokens, const Generated& r) {
    const auto ratio = [](int64_t a, int64_t b) { return b > 0 ? static_cast<double>(a) / static_cast<double>(b) : 0; };
    Row row = row_of(prompt);
    row.set("tokens", tokens);
    set_drafts(row, r);
    row.set("acceptance", ratio(r.accepted, r.drafted)).set("tokens_per_step", ratio(r.steps + r.accepted, r.steps));
    return row;
  }

  // Of all tokens, those that ended behind so many layers.
  static Row depth_row(const std::string* prompt, const std::vector<int64_t>& depths,
                       const std::vector<int64_t>& places) {
    Row row = row_of(prompt);
    row.set("tokens", depths.size());
    double sum = 0;
    for (const int64_t depth : depths) sum += static_cast<double>(depth);
    const auto count = static_cast<double>(std::max<size_t>(depths.size(), 1));
    row.set("mean_depth", sum / count);
    for (const int64_t place : places)
      row.set(fmt::format("share_{}", place), static_cast<double>(std::ranges::count(depths, place)) / count);
    for (const int64_t place : places) row.set(fmt::format("tokens_{}", place), std::ranges::count(depths, place));
    return row;
  }

  // Where tokens can end: exits before the last layer that is used, and that.
  std::vector<int64_t> places() const {
    const Config& config = model_.transformer->config();
    const int64_t end = o_.max_depth > 0 ? o_.max_depth : static_cast<int64_t>(config.layers.size());
    std::vector<int64_t> all;
    if (settings_.exits.rule)
      for (const int64_t depth : exits_of(config))
        if (depth < end) all.push_back(depth);
    all.push_back(end);
    return all;
  }

  void report_on(const std::string& prompt, const Generated& result) {
    const auto tokens = static_cast<int64_t>(result.tokens.size());
    if (!settings_.exits) {
      all_.steps += result.steps, all_.drafted += result.drafted;
      all_.verified += result.verified, all_.accepted += result.accepted;
      all_tokens_ += tokens;
      file_report_.add(draft_row(&prompt, tokens, result));
      return;
    }
    all_.depths.insert(all_.depths.end(), result.depths.begin(), result.depths.end());
    Row row = depth_row(&prompt, result.depths, places());
    row.set("depths", Cell(result.depths));
    file_report_.add(row);
  }

  // Each prompt, then all together.
  int write_report() {
    LateTexts late(o_.force);
    if (o_.report.empty()) return late.status();
    file_report_.common().set("model", o_.model);
    if (settings_.exits) {
      file_report_.add(depth_row(nullptr, all_.depths, places()));
      file_report_.common()
          .set("exit", settings_.exits.rule ? to_string(*settings_.exits.rule) : std::string("none"))
          .set("exit_fill", o_.exit_fill)
          .set("layers", model_.transformer->layers())
          .set("max_depth", places().back());
    } else {
      file_report_.add(draft_row(nullptr, all_tokens_, all_));
      file_report_.common().set("draft", o_.draft).set("temperature", o_.temperature).set("seed", common_.seed);
    }
    late.write("--report", o_.report, render(file_report_, Format::json));
    return late.status();
  }

  void print(Format format) { out_.write(render(report_, format)); }

  void print_stats(const Generated& r) {
    if (r.prefill_seconds == 0) return;  // nothing was asked for
    if (!out_.at_line_start() && at_terminal()) out_.write("\n");
    const auto tokens = static_cast<double>(r.tokens.size());
    std::string line =
        fmt::format("prompt: {} in {} ({})", counted(r.prompt_tokens, "token"), format_duration(r.prefill_seconds),
                    format_rate(static_cast<double>(r.prompt_tokens) / r.prefill_seconds, "tokens"));
    if (r.tokens.size() > 1)
      line += fmt::format("; then {} in {} ({})", counted(r.tokens.size() - 1, "token"),
                          format_duration(r.decode_seconds), format_rate((tokens - 1) / r.decode_seconds, "tokens"));
    if (!o_.draft.empty() && r.steps > 0)
      line += fmt::format("; {} of {} accepted, {:.2f} tokens a step", r.accepted, counted(r.drafted, "drafted token"),
                          static_cast<double>(r.steps + r.accepted) / static_cast<double>(r.steps));
    if (settings_.exits)
      line += fmt::format("; mean depth {:.2f} of {}", r.mean_depth(), counted(model_.transformer->layers(), "layer"));
    log_line(LogLevel::error, line);  // asked for, so --quiet does not silence it
  }

  const GenerateOptions& o_;
  const Common& common_;
  ModelRanks ranks_;                   // with parts of the model; nobody: this process has it whole
  std::optional<StopLater> together_;  // then none of them leaves alone
  GenerateSettings settings_;
  Model model_;
  OpenDraft draft_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  TextStream out_;
  PartRows media_;               // before every prompt
  bool warned_ = false;          // that the context ends before the text
  Report report_, file_report_;  // on standard output; of --report
  Generated all_;                // depths or drafts of all prompts
  int64_t all_tokens_ = 0;
};

}  // namespace

int generate(int argc, char** argv) {
  const Tool tool = {
      .name = "generate",
      .example =
          "  generate small.h5 --prompt \"In the beginning\" --tokens 200 --temperature 0.8 --seed 7\n"
          "  generate small.h5 --lines --format jsonl < prompts.txt\n",
      .setup = [](CLI::App& app, const Common& common) -> std::function<int()> {
        auto options = std::make_shared<GenerateOptions>();
        auto batch = std::make_shared<BatchOptions>();
        options->add(app);
        batch->add(app);
        return [options, batch, &app, &common] {
          batch->check();
          options->parallel = batch->engine.parts;
          batch->force = options->force;
          std::vector<Idle> idle = batch->idle();
          idle.push_back({"--force", !batch->given() && options->report.empty(), "without --report or --output"});
          warn_of_idle(app, idle);
          if (!batch->given()) return GenerateTool(*options, common).run();
          if (parallel_parts(options->parallel, common.ranks, "generate", common.arguments))
            throw usage_error("--parallel does not go with --input: write prompt by prompt");
          const GenerateSettings settings = options->settings();
          if (!options->draft.empty())
            log_warning(
                "--draft is off with --input: drafts gain for one text at a time, and these are written together");
          return generate_batch(*options, *batch, settings, common);
        };
      },
      .ranks = launched_ranks,
      .exclusions = {
          {"--format", {"--echo"}, [](const ValuesOf& values) { return values("--format").front() != "text"; }}}};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
