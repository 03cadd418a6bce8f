#include "cli/eval.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "base/target.h"
#include "bench/eval_samples.h"
#include "bench/routing_report.h"
#include "cli/eval_end.h"
#include "cli/eval_exits.h"
#include "cli/eval_options.h"
#include "cli/eval_retrieval.h"
#include "cli/eval_scores.h"
#include "cli/eval_tasks.h"
#include "cli/expert_options.h"
#include "cli/precision.h"
#include "cli/ranks.h"
#include "comm/standard_input.h"
#include "dataset/text_file.h"
#include "measure/footprint.h"
#include "media/medium.h"
#include "model/store.h"
#include "train/fingerprint.h"

namespace hone::cli {
namespace {

class EvalTool {
 public:
  EvalTool(const EvalOptions& options, const Common& common) : o_(options), common_(common) {}

  int run() {
    work_.ranks = parallel_parts(o_.parallel, common_.ranks, "eval", common_.arguments);
    agree(*common_.ranks, [&] { o_.check(); });
    if (work_.ranks && std::ranges::count(o_.data, "-") > 0) share_standard_input(*work_.ranks.group);
    if (work_.ranks) together_.emplace();
    refuse_models_as_text();
    choose_examples();
    for (const std::string& path : o_.models) work_.subjects.push_back(subject(path));
    if (!o_.baseline.empty()) work_.baseline = subject(o_.baseline);
    for (const EvalSubject& s : work_.subjects) work_.ranks.require_any(s.config);
    if (work_.baseline) divide_baseline();
    if (!o_.plot.empty() && std::none_of(work_.subjects.begin(), work_.subjects.end(),
                                         [](const EvalSubject& s) { return has_mixtures(s.config); }))
      throw usage_error("--plot draws the load of experts, and no model has any");
    choose_windows();
    open_texts_of_all();
    refuse_unmeasured();
    if (!work_.examples) require_memory();
    if (work_.ranks) require_same_text();
    if (common_.dry_run) {
      log_info("would score {} on {}, context {}, {}", counted(work_.subjects.size(), "model"), data_name(),
               work_.settings.context, o_.answers ? "answers only" : fmt::format("stride {}", work_.settings.stride));
      return 0;
    }
    resume_samples();
    score_or_report();
    if (common_.ranks->rank() > 0) return 0;  // the first writes
    o_.low_bit.tell_of_activations(forms());
    write_report();
    if (!o_.plot.empty()) write_plot();
    if (!o_.samples.empty()) write_samples();
    const std::vector<Requirement> requirements = o_.requirements(work_.choices());
    for (const EvalSubject& s : work_.subjects)
      end_.require(s.path, requirements, s.values, work_.baseline ? work_.baseline->values : MetricValues());
    return check_numbers();
  }

 private:
  // As the models, where that can be done beside each of them.
  void divide_baseline() {
    work_.baseline_ranks = work_.ranks;
    for (const EvalSubject& s : work_.subjects)
      work_.baseline_ranks = if_they_divide(work_.baseline_ranks, work_.baseline->config, s.config,
                                            fmt::format("baseline '{}'", work_.baseline->path));
  }

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
    const std::string media = either_of(media_words(&Medium::plural));
    if (!o_.answers) throw usage_error("'{}' has {}: score its answers with --answers", *found, media);
    if (!o_.samples.empty() || o_.limit > 0)
      throw usage_error("{} is for questions of text, and '{}' has {}", o_.samples.empty() ? "--limit" : "--samples",
                        *found, media);
    work_.examples = read_examples(o_.data);
  }

  // A requirement on what no score of a model will have, as its configuration and the examples say before it is scored.
  void refuse_unmeasured() const {
    for (const Requirement& requirement : o_.requirements(work_.choices()))
      for (const std::string& name : requirement.metrics()) {
        const Metric* metric = find_metric(name);
        for (const EvalSubject& s : work_.subjects) {
          const bool routing = metric && metric->origin == Origin::routing && !has_mixtures(s.config);
          const bool depth = metric && metric->origin == Origin::depth &&
                             std::ranges::none_of(s.config.layers, [](const auto& l) { return l.depth_fraction > 0; });
          if (routing || depth)
            throw usage_error("requirement '{}': '{}' has no {}, of which {} is a number", requirement.text(), s.path,
                              routing ? "mixtures of experts" : "routers of depth", name);
        }
        refuse_unmeasured_of_media(requirement.text(), name);
      }
  }

  void refuse_unmeasured_of_media(const std::string& requirement, const std::string& name) const {
    if (work_.examples) {
      const Metric* metric = find_metric(split_comparison(name).first);
      if (name == "attention_fraction" || (metric && metric->origin == Origin::comparison))
        throw usage_error("requirement '{}': {} is not measured on examples with {}", requirement, name,
                          either_of(media_words(&Medium::plural)));
    }
    for (const MediaMix& mix : media_mixes()) {
      const std::string accuracy = "accuracy_" + mix_name(mix);
      if (name != accuracy && name != accuracy + "_stderr") continue;
      if (work_.examples &&
          std::ranges::any_of(work_.examples->all, [&](const Example& example) { return example.mix() == mix; }))
        return;
      std::vector<std::string> media;
      for (const Medium* medium : mix) media.emplace_back(medium->plural);
      throw usage_error("requirement '{}': {} is measured on examples with {}{}, and {} has none", requirement, name,
                        each_of(media), mix.size() == 1 ? " alone" : "", data_name());
    }
  }

  // What is scored when a later model fails is reported.
  void score_or_report() {
    try {
      score_all(work_, o_, common_);
    } catch (const Error& error) {
      work_.subjects.erase(work_.subjects.begin() + static_cast<std::ptrdiff_t>(work_.scored), work_.subjects.end());
      if (common_.ranks->rank() == 0 && work_.scored > 0) write_report();
      if (end_.missing().empty()) throw;
      throw Error(error.kind(), error.what() + end_.missing());
    }
  }

  // Ranks that have a model together go through it with the same rows.
  void require_same_text() const {
    nlohmann::json scored = {{"data", data_name()}, {"context", work_.settings.context}};
    if (work_.examples) {
      scored["examples"] = fingerprint(*work_.examples);
      scored["files"] = fingerprint_of_files(*work_.examples);
    } else if (!o_.answers) {
      scored["text"] = fingerprint(work_.text_of(work_.subjects.front()));
    } else {
      scored["questions"] = fingerprint(work_.questions_of(work_.subjects.front()).text);
    }
    require_alike(*work_.ranks.group, scored);
  }

  std::string data_name() const { return work_.examples ? work_.examples->name() : work_.texts->name(); }
  bool one_tokenizer() const {
    if (!work_.examples) return work_.texts->one_tokenizer();
    return std::ranges::all_of(work_.subjects, [&](const EvalSubject& s) {
      return s.tokenizer_json == work_.subjects.front().tokenizer_json;
    });
  }

  // Configuration and tokenizer alone: what does not fit together is refused before the first long computation.
  static EvalSubject subject(const std::string& path) {
    ReadOptions read;
    read.parameters = false;
    ModelFile file = read_model_file(path, read);
    EvalSubject s;
    s.path = path;
    s.config = config_from_json(file.config, fmt::format("'{}'", path));
    s.tokenizer_json = std::move(file.tokenizer);
    s.tokenizer = make_tokenizer(s.tokenizer_json);
    return s;
  }

  std::vector<EvalSubject*> all() {
    std::vector<EvalSubject*> result;
    if (work_.baseline) result.push_back(&*work_.baseline);
    for (EvalSubject& s : work_.subjects) result.push_back(&s);
    return result;
  }

  void choose_windows() {
    int64_t smallest = 0;
    bool differ = false;
    for (const EvalSubject* s : all()) {
      differ = differ || (smallest > 0 && s->config.context != smallest);
      smallest = smallest ? std::min(smallest, s->config.context) : s->config.context;
      if (o_.context && *o_.context > max_positions(s->config))
        throw usage_error("--context {} is longer than the {} learned positions of '{}'", *o_.context,
                          s->config.context, s->path);
      if (work_.baseline && s->tokenizer_json != work_.baseline->tokenizer_json)
        throw input_error(
            "'{}' and the baseline '{}' have different tokenizers; score them side by side (eval A B) and compare "
            "bits_per_byte",
            s->path, work_.baseline->path);
    }
    warn_beyond_context();
    if (differ && !o_.context) log_info("the models' contexts differ: all are scored with the smallest, {}", smallest);
    work_.settings.context = o_.context.value_or(smallest);
    work_.settings.stride = o_.stride.value_or(work_.settings.context);
    if (work_.settings.stride > work_.settings.context)
      throw usage_error("--stride {} is larger than the context of {}: tokens between the windows would not be scored",
                        work_.settings.stride, work_.settings.context);
    work_.settings.limit = o_.limit;
    work_.settings.type = o_.type();
    work_.settings.code = o_.low_bit.code();
    work_.settings.chunk = o_.prefill_chunk;
    o_.warn_of_idle_chunk(work_.settings.context);
  }

  void warn_beyond_context() {
    std::vector<std::string> beyond;
    int64_t smallest = 0;
    for (const EvalSubject* s : all()) {
      if (o_.context.value_or(0) <= s->config.context) continue;
      beyond.push_back(s->path);
      smallest = smallest ? std::min(smallest, s->config.context) : s->config.context;
    }
    if (!beyond.empty())
      log_warning("--context {} is beyond the {} tokens that {} was trained with: it has not learned to use the rest",
                  *o_.context, smallest, name_of(beyond));
  }

  void open_texts_of_all() {
    if (work_.examples) return;
    work_.texts.emplace(o_, work_.settings.context, common_.seed);
    for (const EvalSubject* s : all()) work_.texts->add(s->tokenizer_json, s->tokenizer);
    work_.texts->warn_of_several_tokenizers();
  }

  // Of one window, which goes through a cache where it is longer than a chunk.
  void require_memory() {
    for (const EvalSubject* s : all()) {
      const int64_t length = std::min(work_.settings.context, work_.text_of(*s).size());
      if (length > work_.settings.chunk)
        require_memory_for(generation_footprint(work_.ranks_of(*s).shape_of_one(s->config), 1, length,
                                                work_.settings.chunk, work_.settings.type, work_.settings.code),
                           fmt::format("scoring '{}'", s->path), "choose a smaller --context");
    }
  }

  // Of the weights of all models.
  std::string forms() const {
    std::string all;
    for (const EvalSubject& s : work_.subjects) all += s.forms + " ";
    return all;
  }

  Row row_of(const EvalSubject& s) const {
    Row row = eval_row(s, s.path, attention_of(s.config), one_tokenizer() ? "" : s.tokenizer->name());
    if (o_.speed) row.set("speed_prompt_tokens", s.speed_prompt).set("speed_generated_tokens", s.speed_generated);
    if (o_.tasks.size() > 1) set_tasks(s, row);
    return row;
  }

  // Of several tasks; of one they are the accuracy of all.
  void set_tasks(const EvalSubject& s, Row& row) const {
    for (const std::string& name : task_metric_names(o_.names_of_tasks(), work_.baseline.has_value()))
      if (const auto found = s.values.find(name); found != s.values.end()) row.set(name, found->second);
  }

  void show_tasks(Report& report) const {
    for (const std::string& name : task_metric_names(o_.names_of_tasks(), work_.baseline.has_value())) {
      report.show(name, Display::fraction, 2);
      if (name.ends_with("_low") || name.ends_with("_high")) report.show_detail(name);
    }
  }

  void write_report() {
    Report report;
    for (const EvalSubject* s : all()) report.add(row_of(*s));
    for (const char* detail : {"speed_prompt_tokens", "speed_generated_tokens"})
      if (o_.speed) report.show_detail(detail);
    hide_routing_details(report);
    show_scores(report);
    if (o_.tasks.size() > 1) show_tasks(report);
    report.fix_csv(eval_columns());
    Row& common = report.common();
    common.set("data", data_name()).set("context", work_.settings.context);
    if (o_.answers)
      common.set("scored", "answers");
    else
      common.set("stride", work_.settings.stride);
    if (o_.limit > 0) common.set("limit", o_.limit);
    if (o_.few_shot > 0 && !o_.tasks.empty()) common.set("few_shot", o_.few_shot);
    if (one_tokenizer()) common.set("tokenizer", work_.subjects.front().tokenizer->name());
    end_.add_machine(common);
    end_.write(report);
  }

  void write_plot() {
    std::vector<std::pair<std::string, ModelRouting>> models;
    for (const EvalSubject& s : work_.subjects) models.emplace_back(s.path, s.routing);
    end_.write("--plot", o_.plot, experts_plot(models));
  }

  void write_samples() {
    std::string lines;
    if (work_.baseline)
      lines += sample_lines(work_.baseline->path, work_.questions_of(*work_.baseline), work_.baseline->answers);
    for (const EvalSubject& s : work_.subjects) lines += sample_lines(s.path, work_.questions_of(s), s.answers);
    if (end_.write("--samples", o_.samples, lines) && work_.samples) work_.samples->remove();
  }

  // Of ranks each has the scores in the end alone, and a stream is no file to find them in.
  void resume_samples() {
    if (o_.samples.empty() || resolve_target(o_.samples).stream || work_.ranks) return;
    nlohmann::json models = nlohmann::json::array(), questions = nlohmann::json::array();
    int64_t answers = 0;
    for (const EvalSubject& s : work_.subjects) {
      models.push_back(sha256_of_file(s.path));
      questions.push_back(digest_of(work_.questions_of(s)));
      answers += static_cast<int64_t>(work_.questions_of(s).windows.size());
    }
    work_.samples.emplace(o_.samples,
                          nlohmann::json{{"models", models},
                                         {"baseline", work_.baseline ? sha256_of_file(work_.baseline->path) : ""},
                                         {"questions", questions},
                                         {"precision", precision_in_use(o_.precision) + o_.low_bit.described()},
                                         {"chunk", work_.settings.chunk}},
                          o_.force);
    if (work_.samples->found() > 0)
      log_info("found the scores of {} of {} in '{}.part'", work_.samples->found(), counted(answers, "answer"),
               o_.samples);
  }

  // A loss that is not a number is a model that cannot be used, whatever was required of it.
  int check_numbers() {
    const std::string failed = end_.failed();
    std::string broken;
    for (const EvalSubject* s : all())
      if (!std::isfinite(s->values.at("loss"))) broken += fmt::format("{}'{}'", broken.empty() ? "" : ", ", s->path);
    if (!broken.empty())
      throw input_error(
          "the loss of {} is not a finite number{}: its weights are broken, or too large for the precision{}", broken,
          failed.empty() ? "" : " and requirements failed", end_.missing());
    return end_.status();
  }

  const EvalOptions& o_;
  const Common& common_;
  std::optional<StopLater> together_;  // where ranks have parts of the models: then none of them leaves alone
  EvalWork work_;
  EvalEnd end_{o_, common_};
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
          if (alone && parallel_parts(options->parallel, common.ranks, "eval", common.arguments))
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
