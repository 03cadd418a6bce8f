#include "cli/train.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "base/memory_limit.h"
#include "base/spelling.h"
#include "base/units.h"
#include "cli/ranks.h"
#include "cli/train_end.h"
#include "cli/train_examples.h"
#include "cli/train_options.h"
#include "cli/train_start.h"
#include "comm/standard_input.h"
#include "compress/gradual.h"
#include "dataset/corpus.h"
#include "dataset/text_file.h"
#include "io/lineage.h"
#include "measure/footprint.h"
#include "model/size.h"
#include "train/fingerprint.h"
#include "train/journal.h"
#include "train/run_state.h"

namespace hone::cli {
namespace {

// Of threads, products and files: what is no tensor, and comes when training begins.
constexpr double room_beside_tensors = 48e6;

class TrainTool {
 public:
  TrainTool(TrainOptions& options, const Common& common) : o_(options), common_(common), teacher_(options.teacher) {}

  int run() {
    agree(*common_.ranks, [&] { o_.check(common_.config); });  // before one of them writes a file
    grid_ = parallel_grid(o_.parallel, common_.ranks);
    agree(*common_.ranks, [&] { o_.check_grid(grid_); });
    if (std::ranges::count(o_.data, "-") + std::ranges::count(o_.valid, "-") > 0) {
      if (common_.ranks->one_process() && common_.ranks->size() > 1) keep_standard_input();
      share_standard_input(*common_.ranks);
    }
    if (common_.ranks->one_process() && common_.ranks->size() > 1) o_.check_read_often();
    start_.load();
    o_.share_steps(grid_.data->size(), start_.description_of_checkpoint());
    std::vector<TextSource> sources;
    if (!o_.data.empty() && (wants_data() || !start_.has_model())) {
      if (o_.lines.taken(o_.data))
        examples_ = std::make_unique<TrainingExamples>(o_);
      else
        sources = open_texts(o_.data);
    }
    o_.check_lines(examples_ != nullptr);
    if (examples_ && !start_.has_model()) sources = examples_->texts();
    if (!start_.has_model()) start_.create(sources);
    const Config& config = model_.transformer->config();
    context_ = o_.model.context.value_or(config.context);
    if (context_ > config.context) {
      if (context_ > max_positions(config))
        throw usage_error("--context {} is longer than the model's {} learned positions", context_, config.context);
      model_.transformer->set_context(context_);
    }
    start_.adapt();
    grid_.row.require_any(config);
    if (const auto media = o_.lines.contrasted_media(); !media.empty())
      model_.transformer->align(media, ops::first_similarity_scale(o_.lines.contrast().loss));
    o_.experts.training(config);  // refuses what a dense model has no use for
    if (wants_data()) return examples_ ? train_examples() : train(std::move(sources));
    return end_.finish_untrained();
  }

 private:
  bool wants_data() const { return o_.steps.value_or(1) > 0; }

  int train(std::vector<TextSource> sources) {
    const auto tokenizer = make_tokenizer(model_.tokenizer);
    std::optional<Corpus> all, valid;
    if (o_.valid_fraction > 0) {
      std::tie(all, valid) = open_split_corpus(std::move(sources), tokenizer, o_.valid_fraction);
    } else {
      all = open_corpus(std::move(sources), tokenizer);
      if (!o_.valid.empty()) valid = open_corpus(o_.valid, tokenizer);
    }
    const Corpus& text = *all;
    RunSettings settings = o_.settings(common_, grid_, model_.transformer->config(), context_, text.size());
    start_.describe(settings);
    // What a resumed run compares, and ranks do.
    if (!o_.checkpoint.empty() || !o_.resume.empty() || common_.ranks->size() > 1) {
      settings.description["training_text"] = fingerprint(text);
      if (valid && (o_.keep == "best" || o_.patience > 0))
        settings.description["validation_text"] = fingerprint(*valid);
    }
    o_.check_description(settings);
    settings.stage = lineage_entry("train", common_.arguments, start_.parent(), common_.seed, nlohmann::json::object());
    add_pruning(settings);
    add_rounding(settings);
    teacher_.load(model_, text, settings);
    log_info("{} parameters, {} tokens to train on{}, {} of {} x {}{}, {}",
             format_count(static_cast<double>(size_of(*model_.transformer).parameters)),
             format_count(static_cast<double>(text.size())),
             valid ? fmt::format(" and {} to validate on", format_count(static_cast<double>(valid->size()))) : "",
             counted(settings.step.schedule.steps, "step"), o_.batch, context_,
             o_.accumulate > 1 ? fmt::format(" x {}", o_.accumulate) : "", precision_of(settings.step));
    const Config& config = model_.transformer->config();
    const ModelFile* resumed = start_.resumed();
    check_run(*model_.transformer, text, valid ? &*valid : nullptr, settings, resumed);
    require_room(config, settings);
    if (common_.dry_run) return 0;
    require_alike(*common_.ranks, settings.description);
    fill_teacher_cache(text, settings);
    Journal journal = open_journal(resumed);
    settings.journal = &journal;
    if (!settings.step.curriculum.empty()) journal.set_windows(describe(settings.step.curriculum));
    return end_.finish(run_training(model_, text, valid ? &*valid : nullptr, settings, resumed), journal,
                       rounding_.get());
  }

  // Lines as sequences of their own, each as long as it is.
  int train_examples() {
    if (o_.teacher.teacher)
      throw usage_error("--teacher reads windows of text, and these lines are sequences of their own");
    const Config& config = model_.transformer->config();
    examples_->open(make_tokenizer(model_.tokenizer), config, context_);
    o_.lines.check_pairs(examples_->train().examples(), o_.batch);
    const int64_t count = examples_->train().size();
    RunSettings settings = o_.settings(common_, grid_, config, context_, count * context_);
    start_.describe(settings);
    settings.description["train_tokens"] = count;
    const bool ranks = common_.ranks->size() > 1;
    if (!o_.checkpoint.empty() || !o_.resume.empty() || ranks) examples_->describe(settings.description);
    o_.check_description(settings);
    settings.stage = lineage_entry("train", common_.arguments, start_.parent(), common_.seed, nlohmann::json::object());
    add_pruning(settings);
    add_rounding(settings);
    log_info("{} parameters, {} to train on{}, {} of {}{}, {}",
             format_count(static_cast<double>(size_of(*model_.transformer).parameters)), counted(count, "example"),
             examples_->valid() ? fmt::format(" and {} to validate on", examples_->valid()->size()) : "",
             counted(settings.step.schedule.steps, "step"), o_.batch,
             o_.accumulate > 1 ? fmt::format(" x {}", o_.accumulate) : "", precision_of(settings.step));
    const ModelFile* resumed = start_.resumed();
    if (resumed) check_same_run(*resumed, settings);
    require_room(config, settings);
    if (common_.dry_run) return 0;
    if (count < grid_.data->size())
      throw input_error("{} for {}; use fewer ranks", counted(count, "example"), counted(grid_.data->size(), "rank"));
    nlohmann::json alike = settings.description;
    if (ranks) examples_->describe_files(alike);
    require_alike(*common_.ranks, alike);
    Journal journal = open_journal(resumed);
    settings.journal = &journal;
    examples_->name_encoders(config, journal);
    std::optional<std::pair<size_t, size_t>> contrasted;
    if (const auto media = o_.lines.contrasted_media(); !media.empty())
      contrasted = {model_.transformer->encoder_of(media[0]), model_.transformer->encoder_of(media[1])};
    ExampleBatches batches(examples_->train_reader(), context_, settings.step.seed, contrasted);
    const RunData data{batches, examples_->validation(*model_.transformer, settings)};
    const RunResult result = run_training(model_, data, settings, resumed);
    examples_->say_broken();
    return end_.finish(result, journal, rounding_.get());
  }

  // Decides what is kept for the backward pass, and whether the run fits this machine.
  void require_room(const Config& config, RunSettings& settings) {
    const double parameters = size_of_shape(config, grid_.row).parameters;
    const int together = common_.ranks->one_process() ? common_.ranks->size() : 1;  // in this process
    if (together > 1) agree(*common_.ranks, [] {});                                 // when all have their models
    const double each = own_memory() / together;
    const double own = common_.dry_run ? each : std::max(each - 4 * parameters, 0.0);
    const double process = largest(*common_.ranks, own);  // so that all choose the same
    const double beside = process + room_beside_tensors;
    settings.step.recompute = o_.plan(config, settings, beside, together);
    const Footprint need = o_.footprint(config, settings);
    if (o_.memory_limit > 0)
      limit_pool(static_cast<size_t>(std::max(static_cast<double>(o_.memory_limit) - together * beside, 0.0)));
    const int here = common_.ranks_on_machine;
    require_memory_for(here == 1 ? need : need.times(here),
                       here == 1 ? "this run" : fmt::format("this run of {} ranks", here),
                       "use a smaller --batch, --context or model");
    log_info("memory: at least {}", describe(need.times(together)));
  }

  std::shared_ptr<const GradualPruning> gradual_pruning(const GradualSettings& gradual) {
    try {
      return std::make_shared<const GradualPruning>(*model_.transformer, gradual);
    } catch (const PatternMisfit& error) {
      throw usage_error("{}; choose another --pattern", error.what());
    }
  }

  void add_pruning(RunSettings& settings) {
    if (!o_.sparsity) return;
    const GradualSettings gradual = {parse_pattern(o_.pattern), *o_.sparsity,      o_.sparsify_from,
                                     o_.sparsify_until,         o_.sparsify_every, settings.step.schedule.steps};
    const auto pruning = gradual_pruning(gradual);
    const PrunedBeyond before = pruning->pruned_beyond();
    if (before.beyond > 0 && o_.resume.empty())
      log_warning("{} of {} weights are pruned by more than --sparsity {} already, and stay so", before.beyond,
                  before.weights, *o_.sparsity);
    settings.before_step = [pruning](int64_t step) { pruning->before_step(step); };
    settings.competes_after = pruning->last_pruning();
  }

  // Behind add_pruning(): the same steps.
  void add_rounding(RunSettings& settings) {
    const auto rounding = o_.rounding(settings.step.schedule.steps);
    if (!rounding || common_.dry_run) return;  // which has no weights to wrap
    rounding_ = std::make_unique<QuantizeAware>(*model_.transformer, *rounding);
    if (start_.resumed()) rounding_->before_step(step_of_run(*start_.resumed()) - 1);  // a validation may come first
    settings.before_step = [aware = rounding_.get(), before = settings.before_step](int64_t step) {
      if (before) before(step);
      aware->before_step(step);
    };
    settings.competes_after = std::max(settings.competes_after, rounding_->begins());
  }

  // Written by the first rank, and then read by all.
  void fill_teacher_cache(const Corpus& text, RunSettings& settings) {
    agree(*common_.ranks, [&] {
      if (first_rank()) teacher_.fill_cache(text, settings);
    });
    if (!first_rank()) teacher_.take_cache(text, settings);
  }

  bool first_rank() const { return common_.ranks->rank() == 0; }

  // Of the first rank: no other writes anything.
  Journal open_journal(const ModelFile* resumed) const {
    std::optional<Journal> journal;
    agree(*common_.ranks, [&] {
      if (first_rank())
        journal.emplace(o_.log, o_.plot, resumed ? std::optional(step_of_run(*resumed)) : std::nullopt);
      else
        journal.emplace("", "");
    });
    return std::move(*journal);
  }

  TrainOptions& o_;
  const Common& common_;
  RankGrid grid_;
  std::unique_ptr<TrainingExamples> examples_;  // where lines are sequences of their own
  TeacherOptions teacher_;
  std::unique_ptr<QuantizeAware> rounding_;
  TrainStart start_{o_, common_, grid_};
  Model& model_ = start_.model();
  TrainEnd end_{o_, common_, grid_, start_, teacher_};
  int64_t context_ = 0;
};

}  // namespace

int train(int argc, char** argv) {
  const Tool tool = {.name = "train",
                     .example =
                         "  train --data corpus.txt --valid-fraction 0.1 --steps 2000 --output dense.h5\n"
                         "  train --init sparse.h5 --data corpus.txt --steps 200 --output recovered.h5\n",
                     .setup = [](CLI::App& app, const Common& common) -> std::function<int()> {
                       auto options = std::make_shared<TrainOptions>();
                       options->add(app);
                       return [options, &common] {
                         options->resolve_resume();
                         return TrainTool(*options, common).run();
                       };
                     },
                     .ranks = launched_ranks,
                     .ranks_of = ranks_named,
                     .exclusions = {{"--init", TrainOptions::of_new_model()},
                                    {"--router-noise", {"--router-temperature"}, [](const ValuesOf& values) {
                                       return values("--router-noise").front() == "none";
                                     }}}};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
