#include "cli/train_options.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/rows.h"
#include "base/spelling.h"
#include "base/target.h"
#include "base/text_output.h"
#include "cli/effects.h"
#include "cli/ranks.h"
#include "compress/patterns.h"

namespace hone::cli {
namespace {

std::string option_of(const OptimizerNumber& number) {
  std::string name = fmt::format("--{}", number.name);
  std::ranges::replace(name, '_', '-');
  return name;
}

bool has_number(const OptimizerKind& kind, const OptimizerNumber& number) {
  return std::ranges::find(kind.numbers, &number) != kind.numbers.end();
}

std::string_view first_with(const OptimizerNumber& number) {
  for (const OptimizerKind& kind : optimizers())
    if (has_number(kind, number)) return kind.name;
  throw internal_error("no optimizer has the number '{}'", number.name);
}

std::string help_of_optimizers() {
  std::vector<std::string> kinds;
  for (const OptimizerKind& kind : optimizers())
    kinds.push_back(fmt::format("{}{}{}", kind.name, kind.what.empty() ? "" : " ", kind.what));
  std::string text = kinds.front();
  for (size_t i = 1; i < kinds.size(); ++i) text += (i + 1 == kinds.size() ? ", or " : ", ") + kinds[i];
  return text;
}

std::vector<std::string> schedules_that(bool ScheduleKind::*what) {
  std::vector<std::string> names;
  for (const ScheduleKind& kind : schedule_kinds())
    if (kind.*what) names.emplace_back(kind.name);
  return names;
}

// "Muon", or "muon": of those that leave something to AdamW.
std::string leaving_to_adamw(std::string_view OptimizerKind::*name) {
  std::vector<std::string> all;
  for (const OptimizerKind& kind : optimizers())
    if (kind.leaves_rest_to_adamw) all.emplace_back(kind.*name);
  return either_of(all);
}

void add_data(RunOptions& run, TrainOptions& o) {
  run.group("Data");
  run.text("--data", o.data,
           "Text to train on, needed but for --steps 0: .jsonl (member \"text\") or plain files; - is stdin")
      .type_name("FILE")
      .shapes(Shapes::texts);
  run.text("--tokenizer", o.tokenizer,
           "Of a new model: bytes, or bpe:SIZE trained on the data; or a model file, tokenizer.json or tokenizer.model "
           "to take it from")
      .shown_default("bytes")
      .shapes(Shapes::run)
      .of_new_model();
  o.lines.add(run);
  run.group("Start");
  run.text("--init", o.init, "Continue from this model's parameters and masks, with a new optimizer")
      .type_name("FILE")
      .shapes(Shapes::derived, "parent_sha256");
  run.text("--resume", o.resume,
           "Continue this checkpoint exactly; repeat the options of its run. auto: that of --checkpoint where there is "
           "one, else start")
      .type_name("FILE")
      .shapes(Shapes::nothing);
}

void add_length(RunOptions& run, TrainOptions& o) {
  run.group("Length", "How long to train: one of these (default: 2000 steps)");
  Declared steps = run.count("--steps", o.steps, "Steps; 0 writes an initialized model and needs no data");
  Declared tokens = run.count("--tokens", o.tokens, "Tokens, e.g. 10M", {.least = 1});
  Declared epochs = run.number("--epochs", o.epochs, "Passes over the training text", {.above = 0, .most = 1e6});
  for (Declared* length : {&steps, &tokens, &epochs}) length->shapes(Shapes::derived, "steps");
  steps.excludes(tokens).excludes(epochs);
  tokens.excludes(epochs);
}

void add_steps(RunOptions& run, TrainOptions& o) {
  run.group("Steps");
  run.count("--batch", o.batch, "Sequences a batch", size_range).shapes(Shapes::run);
  run.text("--curriculum", o.curriculum,
           fmt::format("Short windows first, in batches of as many tokens: {}", curriculum_forms()))
      .shapes(Shapes::run);
  run.text("--shuffle", o.shuffle,
           "What changes its order each pass over the text: windows cut from it, or its documents and then windows",
           {"windows", "documents"})
      .shapes(Shapes::run);
  run.count("--accumulate", o.accumulate, "Batches whose gradients are averaged before a step", size_range)
      .shapes(Shapes::run);
  run.text("--parallel", o.parallel, parallel_grid_help()).shapes(Shapes::nothing);
  run.number("--learning-rate,--lr", o.learning_rate, "Highest learning rate", {.least = 0, .most = 1e6})
      .shapes(Shapes::run);
  run.text("--schedule", o.schedule, fmt::format("Of the rate: {}", rows_in_words(schedule_kinds())),
           names_of_rows(schedule_kinds()))
      .shapes(Shapes::run);
  Declared warmup = run.count("--warmup", o.warmup, "Steps of linear rise to the learning rate");
  warmup.shown_default("5% of the steps, at most 100").shapes(Shapes::derived, "warmup");
  run.count("--warmup-tokens", o.warmup_tokens, "The same in tokens, e.g. 500k, in whole steps")
      .excludes(warmup)
      .shapes(Shapes::derived, "warmup");
  run.fraction("--decay", o.decay,
               fmt::format("Last part of the steps that {} decays over",
                           either_of(schedules_that(&ScheduleKind::falls_late))))
      .shapes(Shapes::run);
  run.fraction("--final-rate", o.final_fraction, "Learning rate at the end, as a fraction of the highest")
      .shapes(Shapes::run);
  run.number("--clip", o.clip, "Largest norm of the gradients; 0: no clipping", {.least = 0}).shapes(Shapes::run);
  run.number("--z-loss", o.z_loss,
             "Weight of (log Z)^2, Z the sum of the logits' exponentials, which keeps logits small",
             {.least = 0, .most = 1e6})
      .shapes(Shapes::run);
  run.fraction("--dropout", o.dropout, "Fraction of activations dropped after embedding, attention and feed-forward")
      .shapes(Shapes::run);
  std::vector<std::string> optimizer_names;
  for (const OptimizerKind& kind : optimizers()) optimizer_names.emplace_back(kind.name);
  run.text("--optimizer", o.optimizer, help_of_optimizers(), optimizer_names).shapes(Shapes::run);
  for (auto& [number, value] : o.optimizer_numbers)
    run.number(option_of(*number), value, std::string(number->what),
               {.least = number->least, .most = number->most, .whole = number->whole})
        .shapes(Shapes::run);
  run.number("--adamw-rate", o.adamw_rate,
             fmt::format("Highest learning rate of what {} leaves to AdamW (default: the learning rate)",
                         leaving_to_adamw(&OptimizerKind::title)),
             {.least = 0, .most = 1e6})
      .shapes_by([&o] { return o.adamw_rate ? nlohmann::json(*o.adamw_rate) : nlohmann::json("learning_rate"); });
  run.number("--weight-decay", o.weight_decay, "Decoupled decay, on matrices only", {.least = 0, .most = 1e6})
      .shapes(Shapes::run);
  run.flag("--weight-decay-cautious", o.cautious_decay,
           "Decay an element only in steps whose update moves it towards 0, too")
      .shapes(Shapes::run);
  run.text("--weight-decay-schedule", o.decay_schedule,
           fmt::format("Of the decay: {}", rows_in_words(decay_schedules())), names_of_rows(decay_schedules()))
      .shapes(Shapes::run);
  run.text("--moments", o.moments,
           "What the optimizer keeps its moving means in: f32, bf16 rounded by chance, or int8 by blocks of 256",
           {moment_forms.begin(), moment_forms.end()})
      .shapes(Shapes::run);
  run.text("--precision", o.precision,
           "bf16 (f32 masters), f32, auto: bf16 where the processor computes in it; or int8: bf16 with products of the "
           "blocks' matrices in 8 bits, but for these matrices' gradients",
           {"auto", "bf16", "f32", "int8"})
      .shapes(Shapes::derived, "precision");
  const Declared recompute =
      run.text("--recompute", o.recompute,
               fmt::format("What the backward pass computes again instead of keeping it: {}", recompute_names()))
          .shapes(Shapes::nothing);
  run.bytes("--memory-limit", o.memory_limit,
            "Choose the plan of --recompute that costs least time within this much memory, e.g. 4GiB; 0: no limit")
      .excludes(recompute)
      .shapes(Shapes::nothing);
}

// Of which checkpoints keep the number, as before there was a choice.
bool is_ema(const AverageRule& rule) {
  return rule.kind == average_rule("ema:0.5").kind;
}

void add_validation(RunOptions& run, TrainOptions& o) {
  run.group("Validation");
  const Declared valid = run.text("--valid", o.valid, "Text to validate on").type_name("FILE").shapes(Shapes::texts);
  run.fraction("--valid-fraction", o.valid_fraction, "Validate on the last part of the data instead")
      .excludes(valid)
      .shapes(Shapes::texts);
  run.count("--valid-every", o.valid_every, "Steps between validations; 0: at the end only").shapes(Shapes::run);
  run.count("--valid-tokens", o.valid_tokens, "Tokens of the validation text that are scored; 0: all")
      .shapes(Shapes::run);
  run.count("--patience", o.patience, "Stop after this many validations without improvement; 0: never")
      .shapes(Shapes::run);
  std::string kinds;
  for (const AverageKind& kind : average_kinds())
    kinds += fmt::format("{}{}, {}", kinds.empty() ? "" : "; or ", kind.form, kind.what);
  const Declared average = run.text("--average", o.average,
                                    fmt::format("Average of the parameters to end with: {}. With --keep best what "
                                                "validates better counts",
                                                kinds))
                               .type_name("KIND")
                               .shapes_by([&o] {
                                 const AverageRule rule = o.averaging();
                                 return is_ema(rule) ? "" : to_string(rule);
                               });
  run.number("--ema", o.ema, "The same as --average ema:X, such as 0.999; 0: none", {.least = 0, .below = 1})
      .excludes(average)
      .shapes_by([&o] {
        const AverageRule rule = o.averaging();
        return is_ema(rule) ? rule.number : 0;
      });
  run.text("--keep", o.keep, "Parameters to end with: those of the best validation, or the last", {"best", "last"})
      .shapes(Shapes::run);
}

void add_sparsity(RunOptions& run, TrainOptions& o) {
  run.group("Sparsity", "Prune by magnitude while training, on a cubic schedule");
  run.fraction("--sparsity", o.sparsity,
               "Fraction of the weights of linear layers (without the head) that is pruned at the end")
      .shapes_by([&o] { return o.sparsity.value_or(0); });
  run.fraction("--sparsify-from", o.sparsify_from, "Part of the steps after which pruning starts").shapes(Shapes::run);
  run.fraction("--sparsify-until", o.sparsify_until, "Part of the steps after which the sparsity is reached")
      .shapes(Shapes::run);
  run.count("--sparsify-every", o.sparsify_every, "Steps between prunings").shapes(Shapes::run);
  run.text("--pattern", o.pattern, "unstructured or block:RxC").shapes(Shapes::run);
}

void add_rounding(RunOptions& run, TrainOptions& o) {
  run.group("Rounding", "Round the blocks' weights while training, as quantize will");
  run.text("--quantize-aware", o.quantize_aware,
           "TYPE[:GROUP], as quantize's --type and --group: int4:32. The model that is written has the rounded values")
      .shapes(Shapes::run);
  run.fraction("--quantize-from", o.quantize_from, "Part of the steps after which it begins").shapes(Shapes::run);
}

void add_files(RunOptions& run, TrainOptions& o) {
  run.group("Files");
  run.text("-o,--output", o.output, "Model file to write").type_name("FILE").required().shapes(Shapes::nothing);
  run.flag("--force", o.force, "Replace existing output").shapes(Shapes::nothing);
  run.text("--checkpoint", o.checkpoint,
           "File for the state of the run, to continue with --resume; replaced as the run goes on")
      .type_name("FILE")
      .shapes(Shapes::nothing);
  run.count("--save-every", o.save_every, "Steps between checkpoints; 0: at the end and on a signal")
      .shapes(Shapes::nothing);
  run.text("--log", o.log, "JSONL file, a line for every --log-every steps").type_name("FILE").shapes(Shapes::nothing);
  run.count("--log-every", o.log_every, "Steps between lines of the log", {.least = 1}).shapes(Shapes::nothing);
  run.text("--plot", o.plot, "SVG file with the losses").type_name("FILE").shapes(Shapes::nothing);
  run.text("--format", o.format, "Of the result on stdout: table or json", {"table", "json"}).shapes(Shapes::nothing);
}

}  // namespace

void TrainOptions::add(CLI::App& app) {
  app_ = &app;
  RunOptions& run = options_.emplace(app);
  add_data(run, *this);
  model.add(run);
  experts.add(run);
  depth.add(run);
  add_length(run, *this);
  add_steps(run, *this);
  teacher.add(run);
  add_validation(run, *this);
  add_sparsity(run, *this);
  add_rounding(run, *this);
  add_files(run, *this);
  run.require_all_stated();
}

std::vector<std::string> TrainOptions::of_new_model() {
  CLI::App app;
  TrainOptions options;
  options.add(app);
  return options.options_->of_new_model();
}

void TrainOptions::check(const std::string& config) const {
  const auto at_least = [](const char* name, int64_t value, int64_t least) {
    if (value < least) throw usage_error("{} must be at least {}, not {}", name, least, value);
  };
  at_least("--batch", batch, 1);
  at_least("--accumulate", accumulate, 1);
  at_least("--log-every", log_every, 1);
  at_least("--sparsify-every", sparsify_every, 1);
  for_option("--recompute", [&] { recompute_plan(recompute); });
  for_option("--average", [&] { average_rule(average); });
  lines.check(*app_);
  experts.check(!init.empty(), !resume.empty());
  depth.check();
  teacher.check(*app_);
  if (shuffle == "documents" && !teacher.cache.empty())
    throw usage_error("--teacher-cache goes by places in the text, which --shuffle documents changes; leave one out");
  if (!init.empty()) {
    const std::string shape = model.shape_option();
    if (!shape.empty()) throw usage_error("{} describes a new model; '{}' has a shape already", shape, init);
    if (tokenizer) throw usage_error("--tokenizer describes a new model; '{}' has a tokenizer already", init);
  }
  if (steps.value_or(1) > 0 && data.empty())
    throw usage_error("--data is missing: give one or more text files (or --steps 0)");
  if (adamw_rate && learning_rate == 0)
    throw usage_error("--adamw-rate follows the schedule of --learning-rate, which is 0: give one above 0");
  if (dropout >= 1) throw usage_error("--dropout must be below 1");
  if (valid_fraction >= 1) throw usage_error("--valid-fraction must be below 1");
  if ((patience > 0 || keep == "best") && valid.empty() && valid_fraction == 0)
    throw usage_error("{} needs --valid or --valid-fraction", patience > 0 ? "--patience" : "--keep best");
  if (patience > 0 && valid_every == 0) throw usage_error("--patience needs --valid-every");
  if (sparsity && *sparsity >= 1) throw usage_error("--sparsity must be in [0, 1), not {}", *sparsity);
  if (sparsity) for_option("--pattern", [&] { parse_pattern(pattern); });
  if (sparsify_from > sparsify_until) throw usage_error("--sparsify-from lies after --sparsify-until");
  if (quantize_from >= 1) throw usage_error("--quantize-from must be below 1: some steps must be left for it");
  rounding(1);
  if (save_every > 0 && checkpoint.empty()) throw usage_error("--save-every needs --checkpoint");
  check_effects();
  check_files(config);
}

AverageRule TrainOptions::averaging() const {
  return average_rule(ema > 0 ? fmt::format("ema:{}", ema) : average);
}

void TrainOptions::resolve_resume() {
  if (resume != "auto") return;
  if (checkpoint.empty()) throw usage_error("--resume auto continues --checkpoint; give it");
  resume = std::filesystem::exists(checkpoint) ? checkpoint : "";
}

void TrainOptions::check_files(const std::string& config) const {
  std::error_code none;
  const bool continues =
      !resume.empty() && (resume == checkpoint || std::filesystem::equivalent(resume, checkpoint, none));
  std::vector<NamedPath> inputs = {
      {"--init", init}, {"--resume", continues ? "" : resume}, {"--config", config}, {"--teacher", teacher.path()}};
  for (const std::string& path : data) inputs.emplace_back("--data", path);
  for (const std::string& path : valid) inputs.emplace_back("--valid", path);
  if (tokenizer && (tokenizer->ends_with(".h5") || tokenizer->ends_with(".json")))
    inputs.emplace_back("--tokenizer", *tokenizer);
  require_distinct({{"--output", output},
                    {"--checkpoint", checkpoint},
                    {"--log", log},
                    {"--plot", plot},
                    {"--teacher-cache", teacher.cache}},
                   inputs);
  require_writable(output, force);
  if (!checkpoint.empty()) {
    if (!force && !continues && std::filesystem::exists(checkpoint))
      throw usage_error("'{}' exists; continue it with --resume {}, or add --force to replace it", checkpoint,
                        checkpoint);
    require_writable(checkpoint, true);
  }
  if (!log.empty()) require_text_writable(log, force || !resume.empty());
  if (!plot.empty()) require_text_writable(plot, force || !resume.empty());
}

void TrainOptions::check_effects() const {
  const bool validates = !valid.empty() || valid_fraction > 0, trains = steps.value_or(1) > 0;
  // Whoever gives these believes that the model is being pruned.
  for (const char* option : {"--pattern", "--sparsify-from", "--sparsify-until", "--sparsify-every"})
    if (!sparsity && given(*app_, option)) throw usage_error("{} has no effect without --sparsity", option);
  if (quantize_aware.empty() && given(*app_, "--quantize-from"))
    throw usage_error("--quantize-from has no effect without --quantize-aware");
  for (const char* group : {"Steps", "Teacher", "Validation", "Sparsity", "Rounding", "Routing"})
    warn_of_idle_group(*app_, group, !trains, "without steps");
  // Whoever gives these believes that another optimizer trains.
  for (const auto& [number, value] : optimizer_numbers)
    if (const std::string option = option_of(*number);
        given(*app_, option) && !has_number(optimizer_named(optimizer), *number))
      throw usage_error("{} has no effect without --optimizer {}", option, first_with(*number));
  if (!optimizer_named(optimizer).leaves_rest_to_adamw && given(*app_, "--adamw-rate"))
    throw usage_error("--adamw-rate has no effect without --optimizer {}", leaving_to_adamw(&OptimizerKind::name));
  for (const char* option : {"--weight-decay-cautious", "--weight-decay-schedule"})
    if (weight_decay == 0 && given(*app_, option)) throw usage_error("{} has no effect with --weight-decay 0", option);
  warn_of_idle(*app_, {{"--checkpoint", !trains, "without steps"},
                       {"--log", !trains, "without steps"},
                       {"--exit-loss", !trains, "without steps"},
                       {"--layer-dropout", !trains, "without steps"},
                       {"--plot", !trains, "without steps"},
                       {"--valid-every", trains && !validates, "without --valid or --valid-fraction"},
                       {"--valid-tokens", trains && !validates, "without --valid or --valid-fraction"},
                       {"--decay", trains && !schedule_named(schedule).falls_late,
                        "without --schedule " + either_of(schedules_that(&ScheduleKind::falls_late))},
                       {"--final-rate", trains && !schedule_named(schedule).falls,
                        "without --schedule " + either_of(schedules_that(&ScheduleKind::falls))},
                       {"--log-every", log.empty(), "without --log"}});
}

}  // namespace hone::cli
