#include "cli/train.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory_limit.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "base/units.h"
#include "cli/model_files.h"
#include "cli/ranks.h"
#include "cli/train_examples.h"
#include "cli/train_options.h"
#include "comm/standard_input.h"
#include "compress/gradual.h"
#include "dataset/corpus.h"
#include "dataset/tokenizer_file.h"
#include "io/lineage.h"
#include "measure/footprint.h"
#include "model/depth_routers.h"
#include "model/exits.h"
#include "model/part.h"
#include "model/size.h"
#include "nn/mixer.h"
#include "report/late_texts.h"
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
    if (std::ranges::count(o_.data, "-") + std::ranges::count(o_.valid, "-") > 0) share_standard_input(*common_.ranks);
    load_start();
    o_.share_steps(grid_.data->size(), description_of_checkpoint());
    std::vector<TextSource> sources;
    if (!o_.data.empty() && (wants_data() || !model_.transformer)) {
      if (o_.lines.taken(o_.data))
        examples_ = std::make_unique<TrainingExamples>(o_);
      else
        sources = open_texts(o_.data);
    }
    o_.check_lines(examples_ != nullptr);
    if (examples_ && !model_.transformer) sources = examples_->texts();
    if (!model_.transformer) create(sources);
    const Config& config = model_.transformer->config();
    context_ = o_.model.context.value_or(config.context);
    if (context_ > config.context) {
      if (config.block.positions == PositionKind::learned)
        throw usage_error("--context {} is longer than the model's {} learned positions", context_, config.context);
      model_.transformer->set_context(context_);
    }
    adapt_attention();
    adapt_exits();
    adapt_depth_routers();
    check_model(o_.parallel, grid_.of_model(), config);
    if (const auto media = o_.lines.contrasted_media(); !media.empty())
      model_.transformer->align(media, ops::first_similarity_scale(o_.lines.contrast().loss));
    o_.experts.training(config);  // refuses what a dense model has no use for
    if (wants_data()) return examples_ ? train_examples() : train(std::move(sources));
    if (!common_.dry_run) save(nlohmann::json::object());
    return saved();
  }

 private:
  // A dry run makes no model: shapes alone.
  std::optional<ShapesOnly> shapes_of_dry_run() const {
    return common_.dry_run ? std::optional<ShapesOnly>(std::in_place) : std::nullopt;
  }

  bool wants_data() const { return o_.steps.value_or(1) > 0; }

  void load_start() {
    const std::string& path = o_.resume.empty() ? o_.init : o_.resume;
    if (path.empty()) return;
    ReadOptions read;
    read.run = !o_.resume.empty();
    model_ = load_model(path, read, &checkpoint_, grid_.of_model());
    agree(*common_.ranks, [&] { require_finite(model_); });
    if (o_.resume.empty()) {
      parent_ = sha256_of_start(path);
      if (o_.experts.experts) upcycle();
      return;
    }
    if (!checkpoint_.run)
      throw input_error("'{}' is a model, not a checkpoint of a run; continue from it with --init", path);
    parent_ = of_run("parent_sha256");
    if (!o_.init.empty() && sha256_of_start(o_.init) != parent_)
      throw usage_error("--init '{}' is not the model that the run of '{}' began with; leave it out", o_.init, path);
    model_.lineage = lineage_before_run(std::move(model_.lineage));
    if (const auto& d = (*checkpoint_.run)["description"]; d.is_object() && d.contains("upcycled"))
      upcycled_ = d["upcycled"];
    if (!o_.model.shape_option().empty()) check_shape();
    o_.experts.check_same(model_.transformer->config());
  }

  // Ranks with parts of one model read a file whole for this once.
  std::string sha256_of_start(const std::string& path) const {
    const auto read = [&] { return grid_.group()->rank() == 0 ? sha256_of_file(path) : std::string(); };
    return gather_agreed(*grid_.group(), read).front();
  }

  void upcycle() {
    const std::optional<ShapesOnly> shapes = shapes_of_dry_run();
    model_.transformer = o_.experts.upcycled(*model_.transformer, common_.seed);
    upcycled_ = {{"experts", *o_.experts.experts}, {"from", o_.init}};
    log_info("turned '{}' into a mixture: {} parameters, {} active", o_.init,
             format_count(static_cast<double>(size_of(*model_.transformer).parameters)),
             format_count(static_cast<double>(size_of(*model_.transformer).active_parameters)));
  }

  // Null where none is resumed.
  nlohmann::json description_of_checkpoint() const {
    if (!checkpoint_.run || !checkpoint_.run->is_object()) return nullptr;
    return checkpoint_.run->value("description", nlohmann::json());
  }

  // What the run's description, which the checkpoint keeps, says of its start: a checkpoint is no stage, so that the
  // parent of a run that was resumed is the file that it began with.
  std::string of_run(const char* name) const {
    const nlohmann::json description = description_of_checkpoint();
    if (!description.is_object()) return "";
    const auto found = description.find(name);
    return found != description.end() && found->is_string() ? found->get<std::string>() : "";
  }

  // Gives a model that exists the kinds of attention that are asked for, and remembers those it had.
  void adapt_attention() {
    Transformer& model = *model_.transformer;
    if (!o_.resume.empty()) attention_before_ = of_run("attention_before");
    if (!o_.model.attention) return;
    const std::string before = attention_of(model.config());
    if (!o_.resume.empty() && mixer_by_layer(*o_.model.attention, model.config().layers.size()) !=
                                  mixer_by_layer(before, model.config().layers.size()))
      throw usage_error("--attention {} differs from the checkpoint's {}; resume with the same options",
                        *o_.model.attention, before);
    model.set_attention(*o_.model.attention);
    if (attention_of(model.config()) != before) attention_before_ = before;
  }

  // Gives a model that exists the exits that are asked for.
  void adapt_exits() {
    Transformer& model = *model_.transformer;
    const std::vector<int64_t> before = exits_of(model.config()), wanted = o_.depth.depths(model.config());
    if (wanted == before) return;
    if (!o_.resume.empty())
      throw usage_error("--exits {} differs from the checkpoint's exits ({}); resume with the same options",
                        *o_.depth.exits, before.empty() ? "none" : fmt::format("{}", fmt::join(before, ",")));
    model.set_exits(wanted);
  }

  // Gives a model that exists the routers of depth that are asked for.
  void adapt_depth_routers() {
    Transformer& model = *model_.transformer;
    const Config wanted = o_.depth.routed(model.config());
    if (wanted == model.config()) return;
    if (!o_.resume.empty())
      throw usage_error(
          "--depth-router {}: the checkpoint has {}; resume with the same options", *o_.depth.router,
          depth_routers_of(model.config()).empty() ? "no routers of depth" : describe_depth_routers(model.config()));
    model.set_depth_routers(depth_routers_of(wanted), *o_.depth.router, common_.seed);
  }

  // Options of the shape may be repeated to resume, but not changed.
  void check_shape() const {
    const nlohmann::json there = to_json(model_.transformer->config());
    Config config = o_.model.config(make_tokenizer(model_.tokenizer)->vocabulary());
    if (o_.experts.experts) config = o_.experts.apply(std::move(config));
    const Config& own = model_.transformer->config();
    if (config.layers.size() == own.layers.size()) {
      set_exits(config, exits_of(own));  // adapt_exits() compares them
      for (size_t i = 0; i < own.layers.size(); ++i) config.layers[i].depth_fraction = own.layers[i].depth_fraction;
    }
    const nlohmann::json here = to_json(config);
    for (const auto& [key, value] : here.items())
      if (!there.contains(key) || there.at(key) != value)
        throw usage_error(
            "this run differs from the checkpoint's in the model's '{}' ({} there, {} here); resume with the "
            "same options",
            key, there.contains(key) ? there.at(key).dump() : "none", value.dump());
  }

  void create(const std::vector<TextSource>& sources) {
    std::shared_ptr<const Tokenizer> tokenizer;
    const std::string name = o_.tokenizer.value_or("bytes");
    if (name.ends_with(".h5")) {
      ReadOptions read;
      read.parameters = false;
      tokenizer = make_tokenizer(read_model_file(name, read).tokenizer);
    } else if (names_tokenizer_file(name)) {
      tokenizer = make_tokenizer(read_tokenizer_file(name));
    } else {
      const TokenizerSpec spec = for_option("--tokenizer", [&] { return parse_tokenizer_spec(name); });
      // Not on what is held out.
      const auto texts = documents_of(o_.valid_fraction > 0 ? split_texts(sources, o_.valid_fraction).first : sources);
      if (spec.kind != "bytes" && sources.empty())
        throw usage_error("--tokenizer {} is trained on text; give --data", name);
      tokenizer = train_tokenizer(spec, texts);
    }
    Config config = o_.model.config(tokenizer->vocabulary());
    if (o_.experts.experts) config = o_.experts.apply(std::move(config));
    const std::optional<ShapesOnly> shapes = shapes_of_dry_run();
    model_.transformer = std::make_unique<Transformer>(config, grid_.of_model());
    initialize(*model_.transformer, common_.seed, o_.model.init_std.value_or(init_deviation));
    model_.tokenizer = tokenizer->to_json();
  }

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
    describe_start(settings);
    // What a resumed run compares, and ranks do.
    if (!o_.checkpoint.empty() || !o_.resume.empty() || common_.ranks->size() > 1) {
      settings.description["training_text"] = fingerprint(text);
      if (valid && (o_.keep == "best" || o_.patience > 0))
        settings.description["validation_text"] = fingerprint(*valid);
    }
    o_.check_description(settings);
    settings.stage = lineage_entry("train", common_.arguments, parent_, common_.seed, nlohmann::json::object());
    add_pruning(settings);
    add_rounding(settings);
    teacher_.load(model_, text, settings);
    log_info("{} parameters, {} tokens to train on{}, {} of {} x {}{}, {}",
             format_count(static_cast<double>(size_of(*model_.transformer).parameters)),
             format_count(static_cast<double>(text.size())),
             valid ? fmt::format(" and {} to validate on", format_count(static_cast<double>(valid->size()))) : "",
             counted(settings.step.schedule.steps, "step"), o_.batch, context_,
             o_.accumulate > 1 ? fmt::format(" x {}", o_.accumulate) : "",
             settings.step.type == DType::bf16 ? "bf16" : "f32");
    const Config& config = model_.transformer->config();
    const ModelFile* resumed = o_.resume.empty() ? nullptr : &checkpoint_;
    check_run(*model_.transformer, text, valid ? &*valid : nullptr, settings, resumed);
    require_room(config, settings);
    if (common_.dry_run) return 0;
    require_alike(*common_.ranks, settings.description);
    fill_teacher_cache(text, settings);
    Journal journal = open_journal(resumed);
    settings.journal = &journal;
    if (!settings.step.curriculum.empty()) journal.set_windows(describe(settings.step.curriculum));
    return finish(run_training(model_, text, valid ? &*valid : nullptr, settings, resumed), journal);
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
    describe_start(settings);
    settings.description["train_tokens"] = count;
    const bool ranks = common_.ranks->size() > 1;
    if (!o_.checkpoint.empty() || !o_.resume.empty() || ranks) examples_->describe(settings.description);
    o_.check_description(settings);
    settings.stage = lineage_entry("train", common_.arguments, parent_, common_.seed, nlohmann::json::object());
    add_pruning(settings);
    add_rounding(settings);
    log_info("{} parameters, {} to train on{}, {} of {}{}, {}",
             format_count(static_cast<double>(size_of(*model_.transformer).parameters)), counted(count, "example"),
             examples_->valid() ? fmt::format(" and {} to validate on", examples_->valid()->size()) : "",
             counted(settings.step.schedule.steps, "step"), o_.batch,
             o_.accumulate > 1 ? fmt::format(" x {}", o_.accumulate) : "",
             settings.step.type == DType::bf16 ? "bf16" : "f32");
    const ModelFile* resumed = o_.resume.empty() ? nullptr : &checkpoint_;
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
    return finish(result, journal);
  }

  void describe_start(RunSettings& settings) const {
    settings.description["parent_sha256"] = parent_;
    if (!attention_before_.empty()) settings.description["attention_before"] = attention_before_;
    if (!upcycled_.is_null()) settings.description["upcycled"] = upcycled_;
  }

  // Decides what is kept for the backward pass, and whether the run fits this machine.
  void require_room(const Config& config, RunSettings& settings) {
    const double parameters = size_of_shape(part_of(config, grid_.tensor->size()), grid_.experts).parameters;
    const double own = common_.dry_run ? own_memory() : std::max(own_memory() - 4 * parameters, 0.0);
    const double process = largest(*common_.ranks, own);  // so that all choose the same
    settings.step.recompute = o_.plan(config, settings, process + room_beside_tensors);
    const Footprint need = o_.footprint(config, settings);
    if (o_.memory_limit > 0)
      limit_pool(
          static_cast<size_t>(std::max(static_cast<double>(o_.memory_limit) - process - room_beside_tensors, 0.0)));
    const int here = common_.ranks_on_machine;
    require_memory_for(here == 1 ? need : need.times(here),
                       here == 1 ? "this run" : fmt::format("this run of {} ranks", here),
                       "use a smaller --batch, --context or model");
    log_info("memory: at least {}", describe(need));
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
    if (!o_.resume.empty()) rounding_->before_step(step_of_run(checkpoint_) - 1);  // a validation may come first
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

  // The model first, then what is secondary to it: a status says what of that is missing.
  int finish(const RunResult& result, Journal& journal) {
    nlohmann::json results = {{"steps", result.steps}, {"tokens", result.tokens}, {"loss", result.loss}};
    if (!o_.curriculum.empty()) results["curriculum"] = o_.curriculum;
    if (o_.shuffle != "windows") results["shuffle"] = o_.shuffle;
    if (result.valid_loss) results["valid_loss"] = *result.valid_loss;
    if (o_.keep == "best") results["kept_step"] = result.kept_step;
    rate_ = result.tokens_per_second;
    if (result.signal && result.checkpoint_saved) {
      log_warning("stopped by signal {} after step {}; continue with --resume {}", result.signal, result.steps,
                  o_.checkpoint);
    } else {
      if (result.signal) results["stopped_by_signal"] = result.signal;
      save(results);
      if (result.signal)
        log_warning("stopped by signal {} after step {}; '{}' holds the parameters of step {}", result.signal,
                    result.steps, saved_at_, result.kept_step);
    }
    journal.finish();
    if (result.signal) return 128 + result.signal;
    if (!journal.complete() || result.checkpoint_failed)
      throw input_error("'{}' is whole, but not all that was asked for beside it could be written: see the warnings",
                        saved_at_);
    return saved();
  }

  // 0, unless the model had to go elsewhere than it was asked to.
  int saved() const {
    LateTexts late(o_.force);
    if (!saved_at_.empty()) late.saved(o_.output, saved_at_);
    return late.status();
  }

  void save(const nlohmann::json& results) {
    agree(*common_.ranks, [&] {
      if (grid_.copies->rank() == 0) write(results);  // on all that have parts of what is written
    });
  }

  void write(nlohmann::json results) {
    const StopLater save_first;
    if (rounding_) rounding_->finish();
    if (!upcycled_.is_null()) results["upcycled"] = upcycled_;
    nlohmann::json recorded = results;
    if (rounding_) recorded["quantize_aware"] = o_.quantize_aware;
    if (const nlohmann::json teacher = teacher_.lineage(); !teacher.is_null()) recorded["teacher"] = teacher;
    if (!attention_before_.empty()) {
      recorded["attention"] = attention_of(model_.transformer->config());
      recorded["attention_before"] = attention_before_;
    }
    const Stage stage = {"train", parent_, recorded};
    const WrittenFile written = save_stage(model_, stage, o_.output, o_.force, common_);
    saved_at_ = written.path;
    if (rate_ > 0) results["train_tokens_per_second"] = rate_;
    print_result(describe_written(written, size_of(*model_.transformer), results, o_.format == "json"));
  }

  TrainOptions& o_;
  const Common& common_;
  RankGrid grid_;
  std::unique_ptr<TrainingExamples> examples_;  // where lines are sequences of their own
  TeacherOptions teacher_;
  std::unique_ptr<QuantizeAware> rounding_;
  Model model_;
  ModelFile checkpoint_;
  std::string parent_, saved_at_;
  std::string attention_before_;  // of a model that changed its kinds
  int64_t context_ = 0;
  nlohmann::json upcycled_;  // for the lineage; null where no dense model was turned into a mixture
  double rate_ = 0;
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
                     .exclusions = {{"--init", TrainOptions::of_new_model()},
                                    {"--router-noise", {"--router-temperature"}, [](const ValuesOf& values) {
                                       return values("--router-noise").front() == "none";
                                     }}}};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
