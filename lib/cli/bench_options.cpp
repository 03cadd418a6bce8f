#include "cli/bench_options.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "base/text_output.h"
#include "cli/effects.h"
#include "cli/plan_options.h"
#include "cli/precision.h"
#include "media/medium.h"
#include "model/exit_calibration.h"
#include "nn/mixer.h"
#include "nn/recompute.h"
#include "report/late_texts.h"
#include "report/report.h"

namespace hone::cli {

namespace {

constexpr int64_t default_generate = 64, default_chunk = 2048;

// Counts, or a range of lengths.
CLI::Option* add_lengths(CLI::App* app, const std::string& name, const char* type, std::vector<int64_t>& counts,
                         std::optional<LengthRange>& lengths, const std::string& description, CountRange range) {
  return app
      ->add_option_function<std::string>(
          name,
          [&counts, &lengths, name, range](const std::string& text) {
            try {
              if (text.find(':') != std::string::npos)
                lengths = length_range(text, range);
              else
                for (const int64_t count : parse_counts(text, range)) counts.push_back(count);
            } catch (const Error& error) {
              const std::string_view what = error.what();
              throw usage_error("{}{}{}", name, what.starts_with("must ") ? " " : ": ", what);
            }
          },
          description)
      ->type_name(type);
}

}  // namespace

void BenchOptions::add(CLI::App& app) {
  app_ = &app;
  auto* what = app.add_option_group("What");
  what->add_option("models", models, "Model files, dense or packed; ratios are to the first");
  add_lengths(what, "--prompt", "COUNTS", prompts, replay.prompt,
              "Lengths of prompts, or with --train of training windows; with --requests also a range, 64:512",
              size_range)
      ->join(',')
      ->default_str("512; with --train the model's context, with --parts 16");
  add_counts(what, "--batch", batches, "Sequences processed together", size_range);
  what->add_option("--attention", attention,
                   "Kinds of attention in place of the models' own, a comma list over the layers; repeat it to compare "
                   "several")
      ->allow_extra_args(false)
      ->type_name("KINDS");
  add_count(what, "--prefill-chunk", prefill_chunk, "Tokens of a prompt that go through the model at once", size_range)
      ->default_str(fmt::format("{}; with --requests {}", default_chunk, EngineSettings().chunk));
  add_lengths(what, "--generate", "COUNT", generates, replay.generate,
              "Tokens generated one by one after each prompt; with --requests also a range, 16:128", CountRange())
      ->default_str("64");
  what->add_option("--parts", parts,
                   fmt::format("Measure {} before the text of a prompt, a comma list of {}: their encoders, and the "
                               "first token; with --train a batch with sequences of each beside batches of each",
                               each_of(media_words(&Medium::plural)), each_of(media_words(&Medium::name))))
      ->delimiter(',')
      ->check(one_of(media_words(&Medium::name)));
  what->add_flag("--train", train,
                 "Measure training steps instead of prompts and generation; the files are not changed");
  what->add_option("--recompute", recompute,
                   fmt::format("With --train: what the backward pass computes again, {}; repeat it to compare several",
                               recompute_names()))
      ->allow_extra_args(false)
      ->type_name("PLAN");
  add_count(what, "--steps", steps, "With --train: steps in a repetition", {.least = 1});
  what->add_option("--draft", drafts,
                   fmt::format("Compare text without and with drafts: {}, or a smaller model; repeat it for several",
                               fmt::join(draft_kinds(), ", ")))
      ->allow_extra_args(false)
      ->type_name("KIND|FILE");
  what->add_option(
          "--exit", exits,
          fmt::format("Compare text without and with tokens that end early: {}, or calibrated (by eval); repeat "
                      "it for several",
                      exit_forms()))
      ->allow_extra_args(false)
      ->type_name("RULE");
  what->add_option("--exit-fill", exit_fill,
                   "With --exit: what layers that a token left out keep of it, exact or propagated (see generate)")
      ->check(one_of({"exact", "propagated"}));
  what->add_option("--data", data,
                   "Measure text that is written, behind prompts that are pieces of this one: needed for --draft and "
                   "--exit")
      ->type_name("FILE");
  add_count(what, "--draft-tokens", draft_tokens, "With --draft: guess at most this many",
            {.least = 1, .most = most_drafted});
  add_number(what, "--draft-min-probability", draft_min_probability,
             "With --draft: stop guessing before a token that the guessing model gives less", {.least = 0, .most = 1});
  what->add_flag("--kernels", kernels, "Measure single kernels at each instruction set instead of models");
  what->add_option("--plan", plans, plan_help)->allow_extra_args(false)->type_name("KEY=VALUE,...");
  what->add_option("--only", only,
                   "With --kernels: those whose name contains one of these texts, as in attention,packed")
      ->join(',');
  replay.add(app);
  auto* how = app.add_option_group("How");
  add_count(how, "--repeat", repeat, "Repetitions; the report has their median and spread", size_range);
  add_count(how, "--warmup", warmup, "Repetitions before those, not counted");
  add_precision(how, precision, true);
  low_bit.add(how);
  how->add_flag("--refresh-ceilings", refresh_ceilings, "Measure the machine's read bandwidth and matrix peak anew");
  auto* output = app.add_option_group("Output");
  output->add_option("--format", format, "Of the report on stdout")
      ->check(one_of({"table", "json", "jsonl", "csv", "md"}));
  output->add_option("--plot", plot, "SVG file with the speeds")->type_name("FILE");
  output->add_flag("--force", force, "Replace an existing plot");
}

void BenchOptions::check() const {
  const auto at_least = [](const char* name, int64_t value, int64_t least) {
    if (value < least) throw usage_error("{} must be at least {}, not {}", name, least, value);
  };
  format_named(format);
  low_bit.check(precision);
  if (is_int8(precision) && !train) throw usage_error("--precision int8 is of training steps: add --train");
  at_least("--repeat", repeat, 1);
  at_least("--steps", steps, 1);
  for (const int64_t batch : batches) at_least("--batch", batch, 1);
  for (const int64_t prompt : prompts) at_least("--prompt", prompt, 1);
  if (kernels && (!models.empty() || train))
    throw usage_error("--kernels measures no models: leave out {}", train ? "--train" : models[0]);
  require_each_once("--prompt", prompts);
  require_each_once("--batch", batches);
  for (const auto& [option, values] : {std::pair("--attention", &attention),
                                       {"--recompute", &recompute},
                                       {"--draft", &drafts},
                                       {"--exit", &exits},
                                       {"--parts", &parts}})
    require_each_once(option, *values);
  if (generates.size() > 1) throw usage_error("--generate is one number, not {}", generates.size());
  if (!plans.empty()) return check_plans();
  check_replay();
  if (!kernels && models.empty()) throw usage_error("give one or more model files, or --kernels");
  if (!kernels && !only.empty()) throw usage_error("--only chooses kernels and needs --kernels");
  if (kernels && !attention.empty()) throw usage_error("--attention changes models and does not go with --kernels");
  for (const std::string& kinds : attention) for_option("--attention", [&] { mixer_by_layer(kinds, 4096); });
  for (const std::string& plan : recompute) for_option("--recompute", [&] { recompute_plan(plan); });
  check_writing();
  check_parts();
  if (kernels && !plot.empty()) throw usage_error("--plot shows models and does not go with --kernels");
  if (recompute.size() > 1 && !plot.empty())
    throw usage_error(
        "--plot tells models and kinds of attention apart, not plans of --recompute: leave one of them out");
  if (!replay.engine.parts.empty())
    for (const auto& [is_given, option] :
         {std::pair(kernels, "--kernels"), {writes(), "--data"}, {!plot.empty(), "--plot"}})
      if (is_given) throw usage_error("--parallel does not go with {}: measure in one process", option);
  check_effects();
  if (plot.empty()) return;
  require_text_writable(plot, force);
  require_distinct({{"--plot", plot}}, named("MODEL", models));
}

// Text that is written.
void BenchOptions::check_writing() const {
  const char* const option = !drafts.empty() ? "--draft" : !exits.empty() ? "--exit" : "--data";
  for (const std::string& draft : drafts) for_option("--draft", [&] { check_draft_name(draft); });
  for (const std::string& exit : exits)
    if (exit != calibrated_rule) for_option("--exit", [&] { parse_exit_rule(exit); });
  if (!writes()) return;
  if (data.empty()) throw usage_error("{} needs prompts that make sense: give --data FILE", option);
  if (kernels || train)
    throw usage_error("{} measures text that is written, not {}", option, kernels ? "kernels" : "training");
  const int64_t most = *std::ranges::max_element(batches);
  if (most > 1 && !exits.empty()) throw usage_error("--exit measures one sequence; leave out --batch");
  if (most > 1 && !drafts.empty())
    log_warning("--draft is off with --batch {}: drafts gain for one text at a time, and these are written together",
                most);
  const int64_t generate = generates.empty() ? default_generate : generates[0];
  if (generate < 2) throw usage_error("{} needs --generate of at least 2, not {}", option, generate);
  if (!plot.empty()) throw usage_error("--plot does not show {}", option);
}

void BenchOptions::check_parts() const {
  if (parts.empty()) return;
  for (const char* option : {"--kernels", "--draft", "--exit", "--data", "--plot", "--attention"})
    if (given(*app_, option)) throw usage_error("{} does not go with --parts", option);
  if (train && !replay.engine.parts.empty())
    throw usage_error("--parallel does not go with --train --parts: measure in one process");
  warn_of_idle(*app_, {{"--generate", !train, "with --parts"}});
}

void BenchOptions::check_replay() const {
  replay.check();
  if (!replay.drawn())
    for (const auto& [range, option] : {std::pair(replay.prompt, "--prompt"), std::pair(replay.generate, "--generate")})
      if (range)
        throw usage_error("{} {}:{} is a range, which only requests that come at random have (--requests poisson:RATE)",
                          option, range->low, range->high);
  if (!replay.given()) return;
  if (!replay.engine.parts.empty()) throw usage_error("--parallel does not go with --requests: measure in one process");
  if (kernels || train || writes() || !attention.empty() || !parts.empty())
    throw usage_error("--requests does not go with {}", kernels           ? "--kernels"
                                                        : !parts.empty()  ? "--parts"
                                                        : train           ? "--train"
                                                        : !drafts.empty() ? "--draft"
                                                        : !exits.empty()  ? "--exit"
                                                        : writes()        ? "--data"
                                                                          : "--attention");
  if (prompts.size() > 1) throw usage_error("--requests takes one --prompt, or a range of them as in 64:512");
  if (!generates.empty() && generates[0] == 0) throw usage_error("--requests needs --generate of at least 1, not 0");
  if (!replay.costs.empty() && models.size() > 1)
    throw usage_error("--costs are of one model, and {} are given", models.size());
}

void BenchOptions::check_plans() const {
  if (!replay.engine.parts.empty())
    throw usage_error("--plan runs nothing in parallel: give ranks and tensor in the plan");
  if (models.size() > 1) throw usage_error("--plan takes one model file at most, whose shape it has");
  if (kernels || train || writes() || replay.given() || !parts.empty())
    throw usage_error("--plan measures neither models nor kernels: leave it alone");
  if (!plot.empty()) throw usage_error("--plot shows models and does not go with --plan");
  std::vector<Idle> idle = replay.idle();
  for (const char* option : {"--prompt", "--batch", "--attention", "--prefill-chunk", "--generate", "--recompute",
                             "--steps", "--only", "--repeat", "--warmup", "--precision", "--activations",
                             "--cache-type", "--exit-fill", "--draft-tokens", "--draft-min-probability", "--force"})
    idle.push_back({option, true, "with --plan"});
  warn_of_idle(*app_, idle);
}

void BenchOptions::check_effects() const {
  std::vector<Idle> idle = replay.idle();
  for (const char* option : {"--batch", "--repeat", "--warmup", "--refresh-ceilings"})
    idle.push_back({option, replay.given(), "with --requests"});
  for (const char* option : {"--prompt", "--generate"})
    idle.push_back({option, replay.given() && !replay.drawn(), "with a trace"});
  for (const char* option : {"--prompt", "--batch", "--prefill-chunk", "--generate", "--steps", "--recompute",
                             "--warmup", "--precision", "--activations", "--cache-type"})
    idle.push_back({option, kernels, "with --kernels"});
  for (const char* option : {"--prefill-chunk", "--generate", "--activations", "--cache-type"})
    idle.push_back({option, train, "with --train"});
  idle.push_back({"--exit-fill", exits.empty(), "without --exit"});
  for (const char* option : {"--draft-tokens", "--draft-min-probability"})
    idle.push_back({option, drafts.empty(), "without --draft"});
  for (const char* option : {"--steps", "--recompute"}) idle.push_back({option, !kernels && !train, "without --train"});
  idle.push_back({"--force", plot.empty(), "without --plot"});
  warn_of_idle(*app_, idle);
}

BenchSettings BenchOptions::settings(const Common& common) const {
  BenchSettings s;
  s.models = models;
  s.attention = attention;
  s.recompute = recompute;
  const std::vector<int64_t> lengths = !prompts.empty() ? prompts
                                                        : std::vector<int64_t>{train           ? 0
                                                                               : parts.empty() ? 512
                                                                                               : 16};
  for (const int threads : common.thread_counts)
    for (const int64_t batch : batches)
      for (const int64_t length : lengths) s.points.push_back({threads, batch, length});
  s.generate = generates.empty() ? default_generate : generates[0];
  s.parts = parts;
  s.prefill_chunk = prefill_chunk.value_or(default_chunk);
  s.drafts = drafts;
  s.exits = exits;
  s.filling = exit_fill == "exact" ? Session::Filling::exact : Session::Filling::propagated;
  s.data = data;
  s.draft_tokens = draft_tokens;
  s.draft_min_probability = draft_min_probability;
  s.train = train;
  s.steps = steps;
  s.repeat = repeat;
  s.warmup = warmup;
  s.type = type_of(precision);
  s.rounding = low_bit.rounding(precision);
  s.code = low_bit.code();
  s.eight_bits = is_int8(precision);
  s.precision = s.eight_bits ? precision : precision_in_use(precision) + (train ? "" : low_bit.described());
  s.refresh_ceilings = refresh_ceilings;
  s.seed = common.seed;
  return s;
}

RequestsSettings BenchOptions::requests_settings(const Common& common) const {
  RequestsSettings s = replay.settings();
  s.models = models;
  s.thread_counts = common.thread_counts;
  if (!prompts.empty()) s.prompt = {prompts[0], prompts[0]};
  if (replay.prompt) s.prompt = *replay.prompt;
  if (!generates.empty()) s.tokens = {generates[0], generates[0]};
  if (replay.generate) s.tokens = *replay.generate;
  s.engine.chunk = prefill_chunk.value_or(s.engine.chunk);
  s.engine.type = type_of(precision);
  s.rounding = low_bit.rounding(precision);
  s.engine.code = low_bit.code();
  s.precision = precision_in_use(precision) + low_bit.described();
  s.seed = common.seed;
  return s;
}

KernelsSettings BenchOptions::kernels_settings(const Common& common) const {
  return {.only = only, .thread_counts = common.thread_counts, .repeat = repeat, .refresh_ceilings = refresh_ceilings};
}

}  // namespace hone::cli
