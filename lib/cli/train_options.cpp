#include "cli/train_options.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/target.h"
#include "base/text_output.h"
#include "kernels/gemm/gemm.h"
#include "measure/evaluate.h"

namespace hone::cli {
namespace {

void add_length(CLI::App& app, TrainOptions& o) {
  auto* group = app.add_option_group("Length", "How long to train: one of these (default: 2000 steps)");
  const auto count = [&](const char* name, std::optional<int64_t>& value, const char* text) {
    return add_count(group, name, value, text);
  };
  CLI::Option* steps = count("--steps", o.steps, "Steps; 0 writes an initialized model and needs no data");
  CLI::Option* tokens = add_count(group, "--tokens", o.tokens, "Tokens, e.g. 10M", {.least = 1});
  CLI::Option* epochs =
      add_number(group, "--epochs", o.epochs, "Passes over the training text", {.above = 0, .most = 1e6});
  steps->excludes(tokens)->excludes(epochs);
  tokens->excludes(epochs);
}

void add_steps(CLI::App& app, TrainOptions& o) {
  auto* group = app.add_option_group("Steps");
  add_count(group, "--batch", o.batch, "Sequences a batch", size_range);
  add_count(group, "--accumulate", o.accumulate, "Batches whose gradients are averaged before a step", size_range);
  add_number(group, "--learning-rate,--lr", o.learning_rate, "Highest learning rate", {.least = 0, .most = 1e6});
  group->add_option("--schedule", o.schedule, "cosine, wsd (warmup, stable, decay) or constant")
      ->check(one_of({"cosine", "wsd", "constant"}));
  add_count(group, "--warmup", o.warmup, "Steps of linear rise to the learning rate")
      ->default_str("5% of the steps, at most 100");
  add_fraction(group, "--decay", o.decay, "Last part of the steps that wsd decays over");
  add_fraction(group, "--final-rate", o.final_fraction, "Learning rate at the end, as a fraction of the highest");
  add_number(group, "--clip", o.clip, "Largest norm of the gradients; 0: no clipping", {.least = 0});
  add_fraction(group, "--dropout", o.dropout,
               "Fraction of activations dropped after embedding, attention and feed-forward");
  add_number(group, "--weight-decay", o.weight_decay, "Decoupled decay, on matrices only", {.least = 0, .most = 1e6});
  add_number(group, "--beta1", o.beta1, "AdamW: memory of the gradient", {.least = 0, .most = 0.9999999});
  add_number(group, "--beta2", o.beta2, "AdamW: memory of its square", {.least = 0, .most = 0.9999999});
  group
      ->add_option("--precision", o.precision,
                   "bf16 (f32 masters), f32, or auto: bf16 where the processor computes in it")
      ->check(one_of({"auto", "bf16", "f32"}));
}

void add_validation(CLI::App& app, TrainOptions& o) {
  auto* group = app.add_option_group("Validation");
  auto* valid = group->add_option("--valid", o.valid, "Text to validate on");
  add_fraction(group, "--valid-fraction", o.valid_fraction, "Validate on the last part of the data instead")
      ->excludes(valid);
  add_count(group, "--valid-every", o.valid_every, "Steps between validations; 0: at the end only");
  add_count(group, "--valid-tokens", o.valid_tokens, "Tokens of the validation text that are scored; 0: all");
  add_count(group, "--patience", o.patience, "Stop after this many validations without improvement; 0: never");
  group->add_option("--keep", o.keep, "Parameters to end with: those of the best validation, or the last")
      ->check(one_of({"best", "last"}));
}

void add_files(CLI::App& app, TrainOptions& o) {
  auto* group = app.add_option_group("Files");
  group->add_option("-o,--output", o.output, "Model file to write")->type_name("FILE")->required();
  group->add_flag("--force", o.force, "Replace existing output");
  group->add_option("--checkpoint", o.checkpoint,
                    "File for the state of the run, to continue with --resume; replaced as the run goes on");
  add_count(group, "--save-every", o.save_every, "Steps between checkpoints; 0: at the end and on a signal");
  group->add_option("--log", o.log, "JSONL file, a line for every --log-every steps");
  add_count(group, "--log-every", o.log_every, "Steps between lines of the log", {.least = 1});
  group->add_option("--plot", o.plot, "SVG file with the losses");
  group->add_option("--format", o.format, "Of the result on stdout: table or json")->check(one_of({"table", "json"}));
}

void add_sparsity(CLI::App& app, TrainOptions& o) {
  auto* group = app.add_option_group("Sparsity", "Prune by magnitude while training, on a cubic schedule");
  add_fraction(group, "--sparsity", o.sparsity,
               "Fraction of the weights of linear layers (without the head) that is pruned at the end");
  add_fraction(group, "--sparsify-from", o.sparsify_from, "Part of the steps after which pruning starts");
  add_fraction(group, "--sparsify-until", o.sparsify_until, "Part of the steps after which the sparsity is reached");
  add_count(group, "--sparsify-every", o.sparsify_every, "Steps between prunings");
  group->add_option("--pattern", o.pattern, "unstructured or block:RxC");
}

}  // namespace

void TrainOptions::add(CLI::App& app) {
  app_ = &app;
  auto* group = app.add_option_group("Data");
  group->add_option("--data", data,
                    "Text to train on, needed but for --steps 0: .jsonl (member \"text\") or plain files; - is stdin");
  group
      ->add_option("--tokenizer", tokenizer,
                   "Of a new model: bytes, or bpe:SIZE trained on the data; or a model file to take it from")
      ->default_str("bytes");
  auto* from = app.add_option_group("Start");
  from->add_option("--init", init, "Continue from this model's parameters and masks, with a new optimizer");
  from->add_option("--resume", resume,
                   "Continue this checkpoint exactly; repeat the options of its run. auto: that of --checkpoint where "
                   "there is one, else start");
  model.add(app);
  experts.add(app);
  add_length(app, *this);
  add_steps(app, *this);
  add_validation(app, *this);
  add_sparsity(app, *this);
  add_files(app, *this);
}

void TrainOptions::check(const std::string& config) const {
  const auto at_least = [](const char* name, int64_t value, int64_t least) {
    if (value < least) throw usage_error("{} must be at least {}, not {}", name, least, value);
  };
  at_least("--batch", batch, 1);
  at_least("--accumulate", accumulate, 1);
  at_least("--log-every", log_every, 1);
  at_least("--sparsify-every", sparsify_every, 1);
  experts.check(!init.empty(), !resume.empty());
  if (!init.empty()) {
    const std::string shape = model.shape_option();
    if (!shape.empty()) throw usage_error("{} describes a new model; '{}' has a shape already", shape, init);
    if (tokenizer) throw usage_error("--tokenizer describes a new model; '{}' has a tokenizer already", init);
  }
  if (steps.value_or(1) > 0 && data.empty())
    throw usage_error("--data is missing: give one or more text files (or --steps 0)");
  if (dropout >= 1) throw usage_error("--dropout must be below 1");
  if (valid_fraction >= 1) throw usage_error("--valid-fraction must be below 1");
  if ((patience > 0 || keep == "best") && valid.empty() && valid_fraction == 0)
    throw usage_error("{} needs --valid or --valid-fraction", patience > 0 ? "--patience" : "--keep best");
  if (patience > 0 && valid_every == 0) throw usage_error("--patience needs --valid-every");
  if (sparsity && *sparsity >= 1) throw usage_error("--sparsity must be in [0, 1), not {}", *sparsity);
  if (sparsify_from > sparsify_until) throw usage_error("--sparsify-from lies after --sparsify-until");
  if (save_every > 0 && checkpoint.empty()) throw usage_error("--save-every needs --checkpoint");
  check_effects();
  check_files(config);
}

bool TrainOptions::given(const char* option) const {
  return app_ && app_->get_option(option)->count() > 0;
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
  std::vector<NamedPath> inputs = {{"--init", init}, {"--resume", continues ? "" : resume}, {"--config", config}};
  for (const std::string& path : data) inputs.emplace_back("--data", path);
  for (const std::string& path : valid) inputs.emplace_back("--valid", path);
  if (tokenizer && tokenizer->ends_with(".h5")) inputs.emplace_back("--tokenizer", *tokenizer);
  require_distinct({{"--output", output}, {"--checkpoint", checkpoint}, {"--log", log}, {"--plot", plot}}, inputs);
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
  struct Idle {
    const char* option;
    bool idle;
    const char* unless;
  };
  const bool validates = !valid.empty() || valid_fraction > 0, trains = steps.value_or(1) > 0;
  // Whoever gives these believes that the model is being pruned.
  for (const char* option : {"--pattern", "--sparsify-from", "--sparsify-until", "--sparsify-every"})
    if (!sparsity && given(option)) throw usage_error("{} has no effect without --sparsity", option);
  for (const Idle& i : {Idle{"--valid-every", !validates, "--valid or --valid-fraction"},
                        {"--valid-tokens", !validates, "--valid or --valid-fraction"},
                        {"--decay", schedule != "wsd", "--schedule wsd"},
                        {"--final-rate", schedule == "constant", "--schedule cosine or wsd"},
                        {"--log-every", log.empty(), "--log"},
                        {"--valid", !trains, "steps"},
                        {"--valid-fraction", !trains, "steps"},
                        {"--checkpoint", !trains, "steps"},
                        {"--log", !trains, "steps"},
                        {"--plot", !trains, "steps"},
                        {"--sparsity", !trains, "steps"}})
    if (i.idle && given(i.option)) log_warning("{} has no effect without {}", i.option, i.unless);
}

RunSettings TrainOptions::settings(const Common& common, const Config& config, int64_t context,
                                   int64_t train_tokens) const {
  RunSettings s;
  StepSettings& step = s.step;
  const double per_step = static_cast<double>(batch) * static_cast<double>(accumulate) * static_cast<double>(context);
  int64_t count = steps.value_or(2000);
  if (tokens) count = static_cast<int64_t>(std::ceil(static_cast<double>(*tokens) / per_step));
  if (epochs) count = std::max<int64_t>(1, std::llround(*epochs * static_cast<double>(train_tokens) / per_step));
  step.batch = batch;
  step.accumulate = accumulate;
  step.clip = clip;
  step.dropout = static_cast<float>(dropout);
  step.type = precision == "auto" ? kernels::default_type() : precision == "bf16" ? DType::bf16 : DType::f32;
  step.seed = common.seed;
  step.adamw = {beta1, beta2, 1e-8, weight_decay};
  step.schedule = {schedule_named(schedule),
                   learning_rate,
                   final_fraction,
                   warmup >= 0 ? warmup : std::min<int64_t>(100, count / 20),
                   count,
                   decay};
  if (step.schedule.warmup >= count && warmup > 0 && count > 0)
    throw usage_error("--warmup {} leaves none of the {} steps at the learning rate asked for", warmup, count);
  step.router = experts.training(config);
  s.context = context;
  s.valid_every = valid_every;
  s.valid_tokens = valid_tokens;
  s.patience = patience;
  s.keep_best = keep == "best";
  s.checkpoint = checkpoint;
  s.save_every = save_every;
  s.log_every = log_every;
  s.description = {{"batch", batch},
                   {"accumulate", accumulate},
                   {"context", context},
                   {"steps", count},
                   {"train_tokens", train_tokens},
                   {"learning_rate", learning_rate},
                   {"schedule", schedule},
                   {"warmup", step.schedule.warmup},
                   {"decay", decay},
                   {"final_rate", final_fraction},
                   {"clip", clip},
                   {"dropout", dropout},
                   {"weight_decay", weight_decay},
                   {"beta1", beta1},
                   {"beta2", beta2},
                   {"precision", step.type == DType::bf16 ? "bf16" : "f32"},
                   {"valid_every", valid_every},
                   {"valid_tokens", valid_tokens},
                   {"patience", patience},
                   {"keep", keep},
                   {"sparsity", sparsity.value_or(0)},
                   {"sparsify_from", sparsify_from},
                   {"sparsify_until", sparsify_until},
                   {"sparsify_every", sparsify_every},
                   {"pattern", pattern},
                   {"seed", common.seed}};
  if (tokenizer) s.description["tokenizer"] = *tokenizer;
  if (model.init_std) s.description["init_std"] = *model.init_std;
  if (has_mixtures(config)) s.description["routing"] = describe(step.router);
  return s;
}

}  // namespace hone::cli
