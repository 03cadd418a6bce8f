#include "cli/eval.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/cpu.h"
#include "base/error.h"
#include "base/log.h"
#include "base/stop.h"
#include "bench/child_process.h"
#include "bench/eval_result.h"
#include "bench/eval_samples.h"
#include "bench/eval_speed.h"
#include "bench/routing_report.h"
#include "cli/eval_exits.h"
#include "cli/eval_options.h"
#include "cli/eval_retrieval.h"
#include "cli/eval_tasks.h"
#include "cli/eval_texts.h"
#include "cli/expert_options.h"
#include "cli/precision.h"
#include "cli/ranks.h"
#include "comm/standard_input.h"
#include "dataset/text_file.h"
#include "measure/evaluate.h"
#include "measure/example_scores.h"
#include "measure/footprint.h"
#include "measure/kept_baseline.h"
#include "measure/memory.h"
#include "measure/speed.h"
#include "model/part.h"
#include "model/store.h"
#include "report/choices.h"
#include "report/late_texts.h"

namespace hone::cli {
namespace {

// One model file of the command line, with what is known of it so far.
struct Subject : EvalResult {
  std::string path;
  Config config;
  nlohmann::json tokenizer_json;
  std::shared_ptr<const Tokenizer> tokenizer;
};

class EvalTool {
 public:
  EvalTool(const EvalOptions& options, const Common& common) : o_(options), common_(common) {}

  int run() {
    ranks_ = parallel_parts(o_.parallel, common_.ranks, "eval", common_.arguments);
    agree(*common_.ranks, [&] { o_.check(); });
    if (ranks_.any() && std::ranges::count(o_.data, "-") > 0) share_standard_input(*ranks_.any());
    if (ranks_.any()) together_.emplace();
    refuse_models_as_text();
    choose_examples();
    for (const std::string& path : o_.models) subjects_.push_back(subject(path));
    if (!o_.baseline.empty()) baseline_ = subject(o_.baseline);
    for (const Subject& s : subjects_) check_model(o_.parallel, ranks_, s.config);
    if (!o_.plot.empty() &&
        std::none_of(subjects_.begin(), subjects_.end(), [](const Subject& s) { return has_mixtures(s.config); }))
      throw usage_error("--plot draws the load of experts, and no model has any");
    choose_windows();
    open_texts_of_all();
    if (!examples_) require_memory();
    if (common_.dry_run) {
      log_info("would score {} model{} on {}, context {}, {}", subjects_.size(), subjects_.size() == 1 ? "" : "s",
               data_name(), settings_.context,
               o_.answers ? "answers only" : fmt::format("stride {}", settings_.stride));
      return 0;
    }
    measure();
    if (common_.ranks->rank() > 0) return 0;  // the first writes
    o_.low_bit.warn_of_idle_activations(forms_);
    write_report();
    if (!o_.plot.empty()) write_plot();
    if (!o_.samples.empty()) write_samples();
    return check_numbers(check_requirements());
  }

 private:
  // --data takes every name that follows it, also those that were meant for models.
  void refuse_models_as_text() const {
    for (const std::string& path : o_.data) {
      const FileKind* kind = kind_of_file(path);
      if (!kind || kind->compression != Compression::none) continue;
      try {
        subject(path);
      } catch (const Error&) {
        continue;  // what it is instead is said where it is read
      }
      throw usage_error("'{}' is a Hone model; models come before --data: eval MODEL... --data TEXT...", path);
    }
  }

  // Lines with images and sounds go a way of their own: each is a sequence.
  void choose_examples() {
    const auto found = std::ranges::find_if(
        o_.data, [](const std::string& path) { return path != "-" && !kind_of_file(path) && holds_parts(path); });
    if (found == o_.data.end()) return;
    if (!o_.answers) throw usage_error("'{}' has images or sounds: score its answers with --answers", *found);
    if (!o_.samples.empty() || o_.limit > 0)
      throw usage_error("{} is for questions of text, and '{}' has images or sounds",
                        o_.samples.empty() ? "--limit" : "--samples", *found);
    examples_ = read_examples(o_.data);
  }

  std::string data_name() const { return examples_ ? examples_->name() : texts_->name(); }
  bool one_tokenizer() const {
    if (!examples_) return texts_->one_tokenizer();
    return std::ranges::all_of(subjects_,
                               [&](const Subject& s) { return s.tokenizer_json == subjects_.front().tokenizer_json; });
  }

  // Of all answers, of those with a label among the media that are there, and how often each encoder ran.
  Scores score_media(Subject& s, const Model& model) {
    FeedSettings feed;
    feed.loss = LossRows::answers;
    SequenceReader reader(*examples_, s.tokenizer, s.config, settings_.context, feed);
    const ExampleScores scores = score_examples(*model.transformer, reader, settings_.type, 0, settings_.progress);
    scores.all.add_to(s.values);
    add_kinds(scores, s.values);
    s.values["answers"] = static_cast<double>(scores.all.windows().size());
    return scores.all;
  }

  // Configuration and tokenizer alone: what does not fit together is refused before the first long computation.
  static Subject subject(const std::string& path) {
    ReadOptions read;
    read.parameters = false;
    ModelFile file = read_model_file(path, read);
    Subject s;
    s.path = path;
    s.config = config_from_json(file.config, fmt::format("'{}'", path));
    s.tokenizer_json = std::move(file.tokenizer);
    s.tokenizer = make_tokenizer(s.tokenizer_json);
    return s;
  }

  std::vector<Subject*> all() {
    std::vector<Subject*> result;
    if (baseline_) result.push_back(&*baseline_);
    for (Subject& s : subjects_) result.push_back(&s);
    return result;
  }

  void choose_windows() {
    int64_t smallest = 0;
    bool differ = false;
    for (const Subject* s : all()) {
      differ = differ || (smallest > 0 && s->config.context != smallest);
      smallest = smallest ? std::min(smallest, s->config.context) : s->config.context;
      if (o_.context && s->config.block.positions == PositionKind::learned && *o_.context > s->config.context)
        throw usage_error("--context {} is longer than the {} learned positions of '{}'", *o_.context,
                          s->config.context, s->path);
      if (baseline_ && s->tokenizer_json != baseline_->tokenizer_json)
        throw input_error(
            "'{}' and the baseline '{}' have different tokenizers; score them side by side (eval A B) and compare "
            "bits_per_byte",
            s->path, baseline_->path);
    }
    warn_beyond_context();
    if (differ && !o_.context) log_info("the models' contexts differ: all are scored with the smallest, {}", smallest);
    settings_.context = o_.context.value_or(smallest);
    settings_.stride = o_.stride.value_or(settings_.context);
    if (settings_.stride > settings_.context)
      throw usage_error("--stride {} is larger than the context of {}: tokens between the windows would not be scored",
                        settings_.stride, settings_.context);
    settings_.limit = o_.limit;
    settings_.type = o_.type();
    settings_.code = o_.low_bit.code();
    settings_.chunk = o_.prefill_chunk;
    o_.warn_of_idle_chunk(settings_.context);
  }

  void warn_beyond_context() {
    std::vector<std::string> beyond;
    int64_t smallest = 0;
    for (const Subject* s : all()) {
      if (o_.context.value_or(0) <= s->config.context) continue;
      beyond.push_back(s->path);
      smallest = smallest ? std::min(smallest, s->config.context) : s->config.context;
    }
    if (!beyond.empty())
      log_warning("--context {} is beyond the {} tokens that {} was trained with: it has not learned to use the rest",
                  *o_.context, smallest, name_of(beyond));
  }

  void open_texts_of_all() {
    if (examples_) return;
    texts_.emplace(o_, settings_.context, common_.seed);
    for (const Subject* s : all()) texts_->add(s->tokenizer_json, s->tokenizer);
    texts_->warn_of_several_tokenizers();
  }

  // Of one window, which goes through a cache where it is longer than a chunk.
  void require_memory() {
    for (const Subject* s : all()) {
      const int64_t length = std::min(settings_.context, text_of(*s).size());
      if (length > settings_.chunk)
        require_memory_for(generation_footprint(part_of(s->config, ranks_.tensor ? ranks_.tensor->size() : 1), 1,
                                                length, settings_.chunk, settings_.type, settings_.code),
                           fmt::format("scoring '{}'", s->path), "choose a smaller --context");
    }
  }

  const Corpus& text_of(const Subject& s) const { return texts_->text(s.tokenizer_json); }
  const Questions& questions_of(const Subject& s) const { return texts_->questions(s.tokenizer_json); }
  bool choices() const { return texts_ && texts_->choices(); }

  EvaluateSettings& settings_for(const Subject& s) {
    if (o_.answers) settings_.answers = questions_of(s).windows;
    return settings_;
  }

  // Each model in a process of its own: what it takes of memory is its own, and one at a time is in memory while speed
  // and memory are measured.
  void measure() {
    const auto take = [](Subject& s, const nlohmann::json& result) {
      static_cast<EvalResult&>(s) = eval_result_of(result);
    };
    if (baseline_ && o_.speed)
      take(*baseline_, in_child(fmt::format("measuring '{}'", baseline_->path), common_.threads, [&] {
        Model model = load_model(baseline_->path);
        measure_alone(*baseline_, model);
        return to_json(*baseline_);
      }));
    if (baseline_ && subjects_.size() > 1 && !examples_) keep_baseline();
    for (Subject& s : subjects_) {
      if (ranks_.any()) {  // whose messages no child could send
        score(s);
        continue;
      }
      const nlohmann::json results = in_child(fmt::format("scoring '{}'", s.path), common_.threads, [&] {
        score(s);
        nlohmann::json both = nlohmann::json::array({to_json(s)});
        if (baseline_ && !kept_) both.push_back(to_json(*baseline_));
        return both;
      });
      take(s, results[0]);
      if (baseline_ && !kept_) take(*baseline_, results[1]);
    }
  }

  // Calls `score()`, which runs the baseline, and takes what it reports beside the scores.
  template <class F>
  auto with_baseline_report(F&& score) {
    AttentionMeter meter;
    settings_.baseline_attention = &meter;
    baseline_->routing.clear();
    settings_.baseline_routing = &baseline_->routing;
    baseline_->depth.clear();
    settings_.baseline_depth = &baseline_->depth;
    auto scores = score();
    baseline_->values["attention_fraction"] = meter.fraction();
    log_debug("scored the baseline '{}'", baseline_->path);
    return scores;
  }

  // A baseline of several models is scored once. Where its hidden states have no room, it is scored with each of them.
  void keep_baseline() {
    const int64_t tokens = scored_tokens(text_of(*baseline_), settings_for(*baseline_));
    kept_.emplace(baseline_->config.block.dim, settings_.type);
    if (!kept_->reserve(tokens)) {
      log_info("no room for the hidden states of {} tokens in TMPDIR: the baseline is scored with every model", tokens);
      kept_.reset();
      return;
    }
    const nlohmann::json results =
        in_child(fmt::format("scoring '{}'", baseline_->path), common_.threads, [&]() -> nlohmann::json {
          Model model = load_model(baseline_->path);
          show_progress(baseline_->path);
          const Scores scores = with_baseline_report([&] {
            return score_baseline(*model.transformer, text_of(*baseline_), settings_for(*baseline_), *kept_);
          });
          scores_of(*baseline_, scores).add_to(baseline_->values);
          add_tasks(baseline_->values, tasks_of(*baseline_, scores));
          finish_sizes(*baseline_, model);
          progress_.reset();
          return {to_json(*baseline_), to_json(scores.windows())};
        });
    static_cast<EvalResult&>(*baseline_) = eval_result_of(results[0]);
    for (const WindowScore& window : window_scores_of(results[1])) baseline_scores_.add(window);
  }

  void score(Subject& s) {
    Model model = load_model(s.path, {}, nullptr, ranks_);
    forms_ += weight_forms(*model.transformer) + " ";
    settings_.routing = &s.routing;
    settings_.depth = &s.depth;
    measure_alone(s, model);
    if (examples_) {
      score_media_pair(s, model);
    } else if (baseline_) {
      score_pair(s, model);
    } else {
      show_progress(s.path);
      AttentionMeter meter;
      settings_.attention = &meter;
      const Scores scores = evaluate(*model.transformer, text_of(s), settings_for(s));
      scores_of(s, scores).add_to(s.values);
      add_tasks(s.values, tasks_of(s, scores));
      s.values["attention_fraction"] = meter.fraction();
      if (!o_.speed) s.values["peak_rss_bytes"] = static_cast<double>(peak_rss_bytes());
    }
    finish_sizes(s, model);
    progress_.reset();
  }

  void score_media_pair(Subject& s, Model& model) {
    show_progress(s.path);
    const Scores ours = score_media(s, model);
    if (!o_.speed && !baseline_) s.values["peak_rss_bytes"] = static_cast<double>(peak_rss_bytes());
    if (!baseline_) return;
    Model other = load_model(baseline_->path);
    s.comparison = compare(ours, score_media(*baseline_, other));
    add_comparison(s.values, *s.comparison);
    finish_sizes(*baseline_, other);
  }

  // What is reported of the scores of all windows, which are kept where samples are wanted.
  Scores scores_of(Subject& s, const Scores& windows) const {
    if (!o_.samples.empty()) s.answers.assign(windows.windows().begin(), windows.windows().end());
    return choices() ? scores_of_choices(windows, choices_of(questions_of(s))) : windows;
  }

  // Of each task; none without tasks.
  std::vector<TaskScores> tasks_of(const Subject& s, const Scores& windows) const {
    return o_.tasks.empty() ? std::vector<TaskScores>() : scores_by_task(texts_->files(), questions_of(s), windows);
  }

  void measure_alone(Subject& s, Model& model) {
    if (!o_.speed) return;
    log_info("measuring the speed of {}", s.path);
    EvalSpeed speed = measure_speed(*model.transformer, settings_.type, settings_.code, settings_.chunk, common_.seed);
    s.values.merge(speed.values);
    s.speed_prompt = speed.prompt;
    s.speed_generated = speed.generated;
    s.values["peak_rss_bytes"] = static_cast<double>(peak_rss_bytes());
  }

  void score_pair(Subject& s, Model& model) {
    Model other = load_model(baseline_->path, {.defer = kept_.has_value()});
    show_progress(s.path);
    AttentionMeter meter;
    settings_.attention = &meter;
    const EvaluateSettings& settings = settings_for(s);
    const PairedScores scores =
        kept_ ? evaluate_against(*model.transformer, *other.transformer, baseline_scores_, *kept_, text_of(s), settings)
              : with_baseline_report(
                    [&] { return evaluate_pair(*model.transformer, *other.transformer, text_of(s), settings); });
    const Scores ours = scores_of(s, scores.model), theirs = scores_of(*baseline_, scores.baseline);
    ours.add_to(s.values);
    s.values["attention_fraction"] = meter.fraction();
    s.comparison =
        compare(ours, theirs,
                choices() ? of_right_answers(scores.divergences, choices_of(questions_of(s))) : scores.divergences);
    add_comparison(s.values, *s.comparison);
    const auto our_tasks = tasks_of(s, scores.model), their_tasks = tasks_of(*baseline_, scores.baseline);
    add_tasks(s.values, our_tasks);
    add_task_differences(s.values, our_tasks, their_tasks);
    if (kept_) return;
    theirs.add_to(baseline_->values);
    add_tasks(baseline_->values, their_tasks);
    finish_sizes(*baseline_, other);
  }

  // After the model ran: weights prepared for products count as they are executed.
  void finish_sizes(Subject& s, Model& model) const {
    const ModelSize size = size_of(*model.transformer);
    s.values["file_bytes"] = static_cast<double>(std::filesystem::file_size(s.path));
    s.values["parameters"] = static_cast<double>(size.parameters);
    s.values["nonzero_parameters"] = static_cast<double>(size.nonzero_parameters);
    s.values["active_parameters"] = static_cast<double>(size.active_parameters);
    s.values["sparsity"] = size.sparsity();
    s.values["zero_fraction"] = size.zero_fraction();
    add_routing(s.values, s.routing);
    add_depth(s.values, s.depth);
    s.values["weight_bytes"] = static_cast<double>(size.weight_bytes);
    s.values["threads"] = common_.threads;
    if (o_.answers && !examples_) s.values["answers"] = static_cast<double>(questions_of(s).windows.size());
    if (choices()) s.values["questions"] = static_cast<double>(questions_of(s).questions.size());
    s.values["seed"] = static_cast<double>(common_.seed);
  }

  void show_progress(const std::string& path) {
    progress_ = std::make_unique<Progress>();
    settings_.progress = [this, path](int64_t done, int64_t windows) {
      progress_->show(fmt::format("scoring {}: {} of {} windows", path, done, windows));
    };
  }

  Row row_of(const Subject& s) const {
    Row row = eval_row(s, s.path, attention_of(s.config), one_tokenizer() ? "" : s.tokenizer->name());
    if (o_.speed) row.set("speed_prompt_tokens", s.speed_prompt).set("speed_generated_tokens", s.speed_generated);
    if (o_.tasks.size() > 1) set_tasks(s, row);
    return row;
  }

  // Of several tasks; of one they are the accuracy of all.
  void set_tasks(const Subject& s, Row& row) const {
    for (const std::string& name : task_metric_names(o_.names_of_tasks(), baseline_.has_value()))
      if (const auto found = s.values.find(name); found != s.values.end()) row.set(name, found->second);
  }

  void show_tasks(Report& report) const {
    for (const std::string& name : task_metric_names(o_.names_of_tasks(), baseline_.has_value())) {
      report.show(name, Display::fraction, 2);
      if (name.ends_with("_low") || name.ends_with("_high")) report.show_detail(name);
    }
  }

  void write_report() {
    Report report;
    for (const Subject* s : all()) report.add(row_of(*s));
    for (const char* detail : {"speed_prompt_tokens", "speed_generated_tokens"})
      if (o_.speed) report.show_detail(detail);
    hide_routing_details(report);
    if (o_.tasks.size() > 1) show_tasks(report);
    report.fix_csv(eval_columns());
    Row& common = report.common();
    common.set("data", data_name()).set("context", settings_.context);
    if (o_.answers)
      common.set("scored", "answers");
    else
      common.set("stride", settings_.stride);
    if (o_.limit > 0) common.set("limit", o_.limit);
    if (o_.few_shot > 0 && !o_.tasks.empty()) common.set("few_shot", o_.few_shot);
    if (one_tokenizer()) common.set("tokenizer", subjects_.front().tokenizer->name());
    common.set("precision", precision_in_use(settings_.type) + o_.low_bit.described());
    if (baseline_) common.set("baseline", baseline_->path);
    common.set("threads", common_.threads)
        .set("isa", std::string(name_of(isa())))
        .set("seed", static_cast<int64_t>(common_.seed));
    const std::string text = render(report, format_named(o_.format));
    if (o_.output == "-")
      print_result(text);
    else if (!late_.write("--output", o_.output, text))
      print_result(text);  // better here than nowhere
  }

  void write_plot() {
    std::vector<std::pair<std::string, ModelRouting>> models;
    for (const Subject& s : subjects_) models.emplace_back(s.path, s.routing);
    late_.write("--plot", o_.plot, experts_plot(models));
  }

  void write_samples() {
    std::string lines;
    if (baseline_) lines += sample_lines(baseline_->path, questions_of(*baseline_), baseline_->answers);
    for (const Subject& s : subjects_) lines += sample_lines(s.path, questions_of(s), s.answers);
    late_.write("--samples", o_.samples, lines);
  }

  // Each on standard error; the report stands already. What failed, or "".
  std::string check_requirements() const {
    size_t failed = 0, count = 0;
    std::string first;
    for (const Requirement& requirement : o_.requirements(choices()))
      for (const Subject& s : subjects_) {
        const RequirementResult result = requirement.evaluate(s.values, baseline_ ? baseline_->values : MetricValues());
        const std::string text = fmt::format("{}: {}", s.path, describe(result));
        log_line(result.passed ? LogLevel::info : LogLevel::error, text);
        if (!result.passed && failed++ == 0) first = text;
        ++count;
      }
    return failed ? fmt::format("{} of {} requirements failed, first {}", failed, count, first) : "";
  }

  // A loss that is not a number is a model that cannot be used, whatever was required of it.
  int check_numbers(const std::string& failed) {
    std::string broken;
    for (const Subject* s : all())
      if (!std::isfinite(s->values.at("loss"))) broken += fmt::format("{}'{}'", broken.empty() ? "" : ", ", s->path);
    if (!broken.empty())
      throw input_error(
          "the loss of {} is not a finite number{}: its weights are broken, or too large for the precision", broken,
          failed.empty() ? "" : " and requirements failed");
    if (!failed.empty()) throw Error(ErrorKind::requirement, failed);
    return late_.status();
  }

  const EvalOptions& o_;
  const Common& common_;
  ModelRanks ranks_;                   // with parts of the models; nobody: this process has them whole
  std::optional<StopLater> together_;  // then none of them leaves alone
  LateTexts late_{o_.force};
  std::vector<Subject> subjects_;
  std::optional<Subject> baseline_;
  EvaluateSettings settings_;
  std::string forms_;                 // of the weights of all models
  std::optional<KeptRows> kept_;      // of the baseline of several models,
  Scores baseline_scores_;            // and its scores
  std::optional<EvalTexts> texts_;    // or
  std::optional<Examples> examples_;  // lines with images and sounds
  std::unique_ptr<Progress> progress_;
};

}  // namespace

int eval(int argc, char** argv) {
  const Tool tool = {
      .name = "eval",
      .example =
          "  eval dense.h5 small.h5 --data test.txt\n"
          "  eval small.h5 --data test.txt --baseline dense.h5 --require 'bits_per_byte <= 1.02*baseline'\n"
          "  eval small.h5 --task hellaswag=hellaswag_val.jsonl --task piqa=valid.jsonl\n",
      .setup = [](CLI::App& app, const Common& common) -> std::function<int()> {
        auto options = std::make_shared<EvalOptions>();
        options->add(app);
        return [options, &common] {
          const bool alone = options->about_exits() || options->retrieval;
          if (alone && parallel_parts(options->parallel, common.ranks, "eval", common.arguments).any())
            throw usage_error("--parallel does not go with exits and --retrieval: score in one process");
          if (options->retrieval) return eval_retrieval(*options, common);
          return options->about_exits() ? eval_exits(*options, common) : EvalTool(*options, common).run();
        };
      },
      .required = {"MODEL", "--data"},
      .ranks = launched_ranks,
      .exclusions = {{"--answers", {"--stride"}}, {"--context", {"--stride"}, stride_exceeds_context}}};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
