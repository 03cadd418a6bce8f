#include "cli/eval_scores.h"

#include <filesystem>

#include "base/log.h"
#include "bench/child_process.h"
#include "bench/eval_samples.h"
#include "bench/eval_speed.h"
#include "bench/routing_report.h"
#include "cli/eval_tasks.h"
#include "measure/example_scores.h"
#include "measure/kept_baseline.h"
#include "measure/memory.h"
#include "measure/speed.h"
#include "model/store.h"
#include "report/choices.h"

namespace hone::cli {
namespace {

class EvalScoring {
 public:
  EvalScoring(EvalWork& work, const EvalOptions& options, const Common& common)
      : work_(work), o_(options), common_(common) {}

  void run() {
    if (work_.ranks)
      run_here();
    else
      run_in_children();
  }

 private:
  // Of ranks, whose messages no child could send. A baseline is scored with every model.
  void run_here() {
    if (work_.baseline && o_.speed) measure_baseline();
    for (EvalSubject& s : work_.subjects) {
      reset_peak_rss();  // of models before
      score(s);
      ++work_.scored;
    }
  }

  // Each model in a process of its own: what it takes of memory is its own, and one at a time is in memory while speed
  // and memory are measured.
  void run_in_children() {
    const auto take = [](EvalSubject& s, const nlohmann::json& result) {
      static_cast<EvalResult&>(s) = eval_result_of(result);
    };
    if (work_.baseline && o_.speed)
      take(*work_.baseline, in_child(fmt::format("measuring '{}'", work_.baseline->path), common_.threads, [&] {
        measure_baseline();
        return to_json(*work_.baseline);
      }));
    if (work_.baseline && work_.subjects.size() > 1) {
      if (work_.examples) {
        keep_media_baseline();
      } else {
        keep_baseline();
      }
    }
    for (EvalSubject& s : work_.subjects) {
      const nlohmann::json results = in_child(fmt::format("scoring '{}'", s.path), common_.threads, [&] {
        score(s);
        nlohmann::json both = nlohmann::json::array({to_json(s)});
        if (work_.baseline && !baseline_scores_) both.push_back(to_json(*work_.baseline));
        return both;
      });
      take(s, results[0]);
      if (work_.baseline && !baseline_scores_) take(*work_.baseline, results[1]);
      ++work_.scored;
    }
  }

  void measure_baseline() {
    Model model = load(*work_.baseline);
    measure_alone(*work_.baseline, model);
  }

  Model load(const EvalSubject& s, const ReadOptions& options = {}) const {
    Model model = load_model(s.path, options, nullptr, work_.ranks_of(s));
    set_rounding(model, o_.rounding());
    return model;
  }

  // Of all answers, of those with a label among the media that are there, and how often each encoder ran.
  Scores score_media(EvalSubject& s, const Model& model) {
    FeedSettings feed;
    feed.loss = LossRows::answers;
    SequenceReader reader(*work_.examples, s.tokenizer, s.config, work_.settings.context, feed);
    const ExampleScores scores =
        score_examples(*model.transformer, reader, work_.settings.type, 0, work_.settings.progress);
    scores.all.add_to(s.values);
    add_kinds(scores, s.values);
    s.values["answers"] = static_cast<double>(scores.all.windows().size());
    return scores.all;
  }

  Scores score_media_baseline() {
    const Model model = load(*work_.baseline);
    Scores scores = score_media(*work_.baseline, model);
    finish_sizes(*work_.baseline, model);
    log_debug("scored the baseline '{}'", work_.baseline->path);
    return scores;
  }

  EvaluateSettings& settings_for(const EvalSubject& s) {
    if (o_.answers) work_.settings.answers = work_.questions_of(s).windows;
    return work_.settings;
  }

  // The same, where an earlier run may have scored some of it; after all that counts is told to count.
  const EvaluateSettings& resumed_settings(const EvalSubject& s) {
    EvaluateSettings& settings = settings_for(s);
    if (work_.samples) work_.samples->begin(static_cast<size_t>(&s - work_.subjects.data()), settings);
    return settings;
  }

  // Calls `score()`, which runs the baseline, and takes what it reports beside the scores.
  template <class F>
  auto with_baseline_report(F&& score) {
    AttentionMeter meter;
    work_.settings.baseline_attention = &meter;
    work_.baseline->routing.clear();
    work_.settings.baseline_routing = &work_.baseline->routing;
    work_.baseline->depth.clear();
    work_.settings.baseline_depth = &work_.baseline->depth;
    auto scores = score();
    work_.baseline->values["attention_fraction"] = meter.fraction();
    log_debug("scored the baseline '{}'", work_.baseline->path);
    return scores;
  }

  // A baseline of several models is scored once. Where its hidden states have no room, it is scored with each of them.
  void keep_baseline() {
    const int64_t tokens = scored_tokens(work_.text_of(*work_.baseline), settings_for(*work_.baseline));
    kept_.emplace(work_.baseline->config.block.dim, work_.settings.type);
    if (!kept_->reserve(tokens)) {
      log_info("no room for the hidden states of {} tokens in TMPDIR: the baseline is scored with every model", tokens);
      kept_.reset();
      return;
    }
    const nlohmann::json results =
        in_child(fmt::format("scoring '{}'", work_.baseline->path), common_.threads, [&]() -> nlohmann::json {
          Model model = load(*work_.baseline);
          show_progress(work_.baseline->path);
          const Scores scores = with_baseline_report([&] {
            return score_baseline(*model.transformer, work_.text_of(*work_.baseline), settings_for(*work_.baseline),
                                  *kept_);
          });
          scores_of(*work_.baseline, scores).add_to(work_.baseline->values);
          add_tasks(work_.baseline->values, tasks_of(*work_.baseline, scores));
          finish_sizes(*work_.baseline, model);
          progress_.reset();
          return {to_json(*work_.baseline), to_json(scores.windows())};
        });
    take_baseline(results);
  }

  // Of examples nothing is kept but scores: there is no divergence of their predictions.
  void keep_media_baseline() {
    take_baseline(in_child(fmt::format("scoring '{}'", work_.baseline->path), common_.threads, [&]() -> nlohmann::json {
      show_progress(work_.baseline->path);
      const Scores scores = score_media_baseline();
      progress_.reset();
      return {to_json(*work_.baseline), to_json(scores.windows())};
    }));
  }

  // Its result and the scores of its windows.
  void take_baseline(const nlohmann::json& results) {
    static_cast<EvalResult&>(*work_.baseline) = eval_result_of(results[0]);
    baseline_scores_.emplace();
    for (const WindowScore& window : window_scores_of(results[1])) baseline_scores_->add(window);
  }

  void score(EvalSubject& s) {
    Model model = load(s);
    s.forms = weight_forms(*model.transformer);
    work_.settings.routing = &s.routing;
    work_.settings.depth = &s.depth;
    measure_alone(s, model);
    if (work_.examples) {
      score_media_pair(s, model);
    } else if (work_.baseline) {
      score_pair(s, model);
    } else {
      show_progress(s.path);
      AttentionMeter meter;
      work_.settings.attention = &meter;
      const Scores scores = evaluate(*model.transformer, work_.text_of(s), resumed_settings(s));
      scores_of(s, scores).add_to(s.values);
      add_tasks(s.values, tasks_of(s, scores));
      s.values["attention_fraction"] = meter.fraction();
      if (!o_.speed) s.values["peak_rss_bytes"] = static_cast<double>(peak_rss_bytes());
    }
    finish_sizes(s, model);
    progress_.reset();
  }

  void score_media_pair(EvalSubject& s, Model& model) {
    show_progress(s.path);
    const Scores ours = score_media(s, model);
    if (!o_.speed && !work_.baseline) s.values["peak_rss_bytes"] = static_cast<double>(peak_rss_bytes());
    if (!work_.baseline) return;
    s.comparison = compare(ours, baseline_scores_ ? *baseline_scores_ : score_media_baseline());
    add_comparison(s.values, *s.comparison);
  }

  // What is reported of the scores of all windows, which are kept where samples are wanted.
  Scores scores_of(EvalSubject& s, const Scores& windows) const {
    if (!o_.samples.empty()) s.answers.assign(windows.windows().begin(), windows.windows().end());
    return work_.choices() ? scores_of_choices(windows, choices_of(work_.questions_of(s))) : windows;
  }

  // Of each task; none without tasks.
  std::vector<TaskScores> tasks_of(const EvalSubject& s, const Scores& windows) const {
    return o_.tasks.empty() ? std::vector<TaskScores>()
                            : scores_by_task(work_.texts->files(), work_.questions_of(s), windows);
  }

  void measure_alone(EvalSubject& s, Model& model) {
    if (!o_.speed) return;
    log_info("measuring the speed of {}", s.path);
    EvalSpeed speed =
        measure_speed(*model.transformer, work_.settings.type, work_.settings.code, work_.settings.chunk, common_.seed);
    s.values.merge(speed.values);
    s.speed_prompt = speed.prompt;
    s.speed_generated = speed.generated;
    s.values["peak_rss_bytes"] = static_cast<double>(peak_rss_bytes());
  }

  void score_pair(EvalSubject& s, Model& model) {
    Model other = load(*work_.baseline, {.defer = kept_.has_value()});
    show_progress(s.path);
    AttentionMeter meter;
    work_.settings.attention = &meter;
    const PairedScores scores =
        kept_ ? evaluate_against(*model.transformer, *other.transformer, *baseline_scores_, *kept_, work_.text_of(s),
                                 resumed_settings(s))
              : with_baseline_report([&] {
                  return evaluate_pair(*model.transformer, *other.transformer, work_.text_of(s), resumed_settings(s));
                });
    const Scores ours = scores_of(s, scores.model), theirs = scores_of(*work_.baseline, scores.baseline);
    ours.add_to(s.values);
    s.values["attention_fraction"] = meter.fraction();
    s.comparison = compare(
        ours, theirs,
        work_.choices() ? of_right_answers(scores.divergences, choices_of(work_.questions_of(s))) : scores.divergences);
    add_comparison(s.values, *s.comparison);
    const auto our_tasks = tasks_of(s, scores.model), their_tasks = tasks_of(*work_.baseline, scores.baseline);
    add_tasks(s.values, our_tasks);
    add_task_differences(s.values, our_tasks, their_tasks);
    if (kept_) return;
    theirs.add_to(work_.baseline->values);
    add_tasks(work_.baseline->values, their_tasks);
    finish_sizes(*work_.baseline, other);
  }

  // After the model ran: weights prepared for products count as they are executed.
  void finish_sizes(EvalSubject& s, const Model& model) const {
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
    if (o_.answers && !work_.examples) s.values["answers"] = static_cast<double>(work_.questions_of(s).windows.size());
    if (work_.choices()) s.values["questions"] = static_cast<double>(work_.questions_of(s).questions.size());
    s.values["seed"] = static_cast<double>(common_.seed);
  }

  void show_progress(const std::string& path) {
    progress_ = std::make_unique<Progress>();
    work_.settings.progress = [this, path](int64_t done, int64_t windows) {
      progress_->show(fmt::format("scoring {}: {} of {} windows", path, done, windows));
    };
  }

  EvalWork& work_;
  const EvalOptions& o_;
  const Common& common_;
  // Of a baseline of several models, where it was scored before them.
  std::optional<Scores> baseline_scores_;
  std::optional<KeptRows> kept_;  // of a text
  std::unique_ptr<Progress> progress_;
};

}  // namespace

void score_all(EvalWork& work, const EvalOptions& options, const Common& common) {
  EvalScoring(work, options, common).run();
}

}  // namespace hone::cli
