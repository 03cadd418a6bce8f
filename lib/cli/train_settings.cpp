// What a run of `train` is told, of its options and of the model and text that they meet.
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "base/units.h"
#include "cli/precision.h"
#include "cli/train_options.h"
#include "compress/quantize.h"
#include "model/exits.h"
#include "model/size.h"
#include "train/division.h"
#include "train/objectives/exits.h"

namespace hone::cli {

std::optional<QuantizeAwareSettings> TrainOptions::rounding(int64_t count) const {
  if (quantize_aware.empty()) return std::nullopt;
  const size_t colon = quantize_aware.find(':');
  const PackedType type =
      for_option("--quantize-aware", [&] { return packed_type_named(quantize_aware.substr(0, colon)); });
  if (!has_scales(type)) throw usage_error("--quantize-aware {}: give a type that has scales", quantize_aware);
  const int64_t group = colon == std::string::npos ? 0 : for_option("--quantize-aware", [&] {
    return parse_count(quantize_aware.substr(colon + 1));
  });
  if (group != 0 && group != 32 && group != 64 && group != 128)
    throw usage_error("--quantize-aware {}: a group has 32, 64 or 128 columns; without one a scale serves a row",
                      quantize_aware);
  return QuantizeAwareSettings{*type, group, quantize_from, count};
}

void TrainOptions::share_steps(int ranks, const nlohmann::json& resumed) {
  const StepCut asked = {batch, accumulate};
  StepCut cut = cut_for(asked, ranks);
  if (resumed.is_object() && resumed.contains("batch") && resumed["batch"].is_number_integer() &&
      resumed.contains("accumulate") && resumed["accumulate"].is_number_integer()) {
    const StepCut there = {resumed["batch"], resumed["accumulate"]};
    if (cut_of(there, asked)) {
      if (there.accumulate % ranks != 0)
        throw usage_error(
            "a step of the run of '{}' is {} x {} sequences, which {} ranks cannot share; use a number of ranks that "
            "divides {}",
            resume, there.accumulate, there.batch, ranks, there.accumulate);
      cut = there;
    }
  }
  batch = cut.batch;
  accumulate = cut.accumulate;
}

void TrainOptions::check_read_often() const {
  for (const std::vector<std::string>& texts : {data, valid})
    for (const std::string& path : texts) {
      struct stat status;
      if (path == "-" || stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))
        continue;
      throw usage_error(
          "'{}' is no regular file, and each rank of --parallel {} reads the text; give a file, or - for "
          "standard input",
          path, parallel);
    }
}

void TrainOptions::check_grid(const RankGrid& grid) const {
  if (!grid.row) return;
  const struct {
    TrainingWish wish;
    bool is_given;
    const char* option;
  } wishes[] = {
      {TrainingWish::pruning, sparsity.has_value(), "--sparsity"},
      {TrainingWish::rounding, !quantize_aware.empty(), "--quantize-aware"},
      {TrainingWish::teacher_cache, !teacher.cache.empty(), "--teacher-cache"},
      {TrainingWish::experts, experts.experts.has_value(), "--experts"},
      {TrainingWish::layer_dropout, layer_dropout(depth.dropout).most > 0, "--layer-dropout"},
      {TrainingWish::eight_bits, is_int8(precision), "--precision int8"},
  };
  for (const RefusedWish& refusal : grid.row.way->refuses)
    for (const auto& asked : wishes)
      if (asked.is_given && asked.wish == refusal.wish)
        throw usage_error("{} {}, and --parallel {} divides them among ranks; leave one out", asked.option, refusal.why,
                          parallel);
  if (!grid.row.way->elementwise) return;
  OptimizerSettings settings;
  settings.kind = &optimizer_named(optimizer);
  settings.moments = moment_form(moments);
  require_elementwise(settings);
}

RunSettings TrainOptions::settings(const Common& common, const RankGrid& grid, const Config& config, int64_t context,
                                   int64_t train_tokens) const {
  RunSettings s;
  StepSettings& step = s.step;
  const double per_step = static_cast<double>(batch) * static_cast<double>(accumulate) * static_cast<double>(context);
  int64_t count = steps.value_or(2000);
  if (tokens) count = static_cast<int64_t>(std::ceil(static_cast<double>(*tokens) / per_step));
  if (epochs) count = std::max<int64_t>(1, std::llround(*epochs * static_cast<double>(train_tokens) / per_step));
  step.batch = batch;
  step.accumulate = accumulate;
  step.grid = grid;
  step.clip = clip;
  step.objectives.z_weight = static_cast<float>(z_loss);
  step.objectives.contrastive = lines.contrast();
  step.dropout = static_cast<float>(dropout);
  step.type = type_of(precision);
  step.eight_bits = is_int8(precision);
  step.seed = common.seed;
  for (const auto& [number, value] : optimizer_numbers) step.optimizer.numbers.set(*number, value);
  s.shuffle = shuffle == "documents" ? Shuffle::documents : Shuffle::windows;
  step.optimizer.weight_decay = weight_decay;
  step.optimizer.cautious_decay = cautious_decay;
  step.optimizer.moments = moment_form(moments);
  step.optimizer.seed = common.seed;
  step.decay = &decay_schedule_named(decay_schedule);
  step.optimizer.kind = &optimizer_named(optimizer);
  if (adamw_rate) step.optimizer.adamw_rate = learning_rate > 0 ? *adamw_rate / learning_rate : 1;
  step.schedule = {&schedule_named(schedule),
                   learning_rate,
                   final_fraction,
                   warmup >= 0 ? warmup : std::min<int64_t>(100, count / 20),
                   count,
                   decay};
  if (warmup_tokens)
    step.schedule.warmup = static_cast<int64_t>(std::ceil(static_cast<double>(*warmup_tokens) / per_step));
  if (step.schedule.warmup >= count && (warmup > 0 || warmup_tokens) && count > 0)
    throw usage_error(
        "{} leaves none of the {} steps at the learning rate asked for",
        warmup_tokens ? fmt::format("--warmup-tokens {}", *warmup_tokens) : fmt::format("--warmup {}", warmup), count);
  if (!curriculum.empty()) step.curriculum = curriculum_stages(curriculum, batch * context, context, count);
  step.router = experts.training(config);
  depth.training(config, step);
  // Where other layers end a stretch that runs again, ranks would meet in another order.
  if (grid.row && grid.row.way->own_batches && step.objectives.exits.rotate && exits_of(config).size() > 1)
    throw usage_error(
        "--exit-loss {}: ranks that divide {} train the same exits at once; leave out rotate, or --parallel {}",
        depth.exit_loss, grid.row.way->what, parallel);
  s.context = context;
  s.valid_every = valid_every;
  s.valid_tokens = valid_tokens;
  s.patience = patience;
  s.keep_best = keep == "best";
  s.average = averaging();
  s.checkpoint = checkpoint;
  s.save_every = save_every;
  s.log_every = log_every;
  s.description = options_->description();
  s.description_defaults = options_->defaults();
  // What options alone do not say.
  s.description.update({{"context", context},
                        {"steps", count},
                        {"train_tokens", train_tokens},
                        {"warmup", step.schedule.warmup},
                        {"precision", precision_of(step)},
                        {"seed", common.seed}});
  s.description_defaults.update(TeacherOptions::description_of_none());
  s.description.update(teacher.description(context));
  if (has_mixtures(config)) s.description["routing"] = describe(step.router);
  return s;
}

namespace {

int64_t exits_at_once(const ExitLossSettings& settings, const Config& config) {
  return static_cast<int64_t>(exits_trained(settings, exits_of(config), 0).size());
}

}  // namespace

Footprint TrainOptions::footprint(const Config& config, const RunSettings& settings) const {
  const StepSettings& step = settings.step;
  const ModelRanks& row = step.grid.row;
  // Parts that are contrasted may be there once more, alone.
  const int64_t sequences = step.objectives.contrastive.weight > 0 ? 2 * step.batch : step.batch;
  const TrainingShape shape = {sequences,      settings.context,
                               step.type,      step.router.capacity_factor,
                               step.recompute, exits_at_once(step.objectives.exits, config)};
  Footprint need = training_footprint(
      config, shape, optimizer_bytes(config, step.optimizer, step.accumulate, step.grid.data->size(), row), row);
  need.teacher = step.objectives.distillation.bytes;
  if (!quantize_aware.empty())
    need.copies +=
        4 * size_of_shape(config, row).linear + (step.type == DType::bf16 ? 4 * size_of_shape(config, row).linear : 0);
  if (settings.average) need.copies += 4 * size_of_shape(config, row).parameters;
  if (settings.keep_best) need.copies += 4 * size_of_shape(config, row).parameters;
  return need;
}

RecomputePlan TrainOptions::plan(const Config& config, const RunSettings& settings, double process,
                                 int together) const {
  if (memory_limit == 0) return recompute_plan(recompute);
  struct Choice {
    RecomputePlan plan;
    double bytes, flops;
  };
  std::vector<Choice> all;
  RunSettings with = settings;
  for (const RecomputePlan& plan : recompute_plans(static_cast<int64_t>(config.layers.size()))) {
    if (config.block.parallel && !plan.keeps_blocks_whole()) continue;
    with.step.recompute = plan;
    const TrainingShape shape = {with.step.batch,
                                 with.context,
                                 with.step.type,
                                 with.step.router.capacity_factor,
                                 plan,
                                 exits_at_once(settings.step.objectives.exits, config)};
    all.push_back({plan, together * (footprint(config, with).total() + process), recomputed_flops(config, shape)});
  }
  const auto limit = static_cast<double>(memory_limit);
  const auto least = std::ranges::min_element(all, {}, &Choice::bytes);
  if (least->bytes > limit)
    throw usage_error(
        "--memory-limit {}: this run takes {} at the least, with --recompute {}; use a smaller --batch, --context or "
        "model",
        format_bytes(limit), format_bytes(least->bytes), to_string(least->plan));
  const Choice* best = &*least;
  for (const Choice& choice : all)
    if (choice.bytes <= limit && choice.flops < best->flops) best = &choice;
  log_info("--memory-limit {}: --recompute {}, {} in all", format_bytes(limit), to_string(best->plan),
           format_bytes(best->bytes));
  return best->plan;
}

void TrainOptions::check_description(const RunSettings& settings) const {
  options_->require_described(settings.description);
}

}  // namespace hone::cli
