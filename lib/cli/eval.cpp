#include "cli/eval.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "base/atomic_file.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/eval_options.h"
#include "cli/eval_speed.h"
#include "cli/expert_options.h"
#include "cli/report_columns.h"
#include "cli/routing_report.h"
#include "dataset/corpus.h"
#include "dataset/questions.h"
#include "measure/evaluate.h"
#include "measure/memory.h"
#include "model/store.h"

namespace hone::cli {
namespace {

// One model file of the command line, with what is known of it so far.
struct Subject {
  std::string path;
  Config config;
  nlohmann::json tokenizer_json;
  std::shared_ptr<const Tokenizer> tokenizer;
  MetricValues values;
  ModelRouting routing;
  int64_t speed_prompt = 0, speed_generated = 0;
  std::optional<Comparison> comparison;
};

// In the order of a row. Whole numbers stay whole in JSON.
constexpr std::string_view whole_metrics[] = {"file_bytes", "parameters", "nonzero_parameters", "active_parameters"};
constexpr std::string_view quality_metrics[] = {"loss", "perplexity", "bits_per_byte", "accuracy", "accuracy_stderr"};
constexpr std::string_view speed_metrics[] = {
    "prefill_tokens_per_second", "decode_tokens_per_second", "first_token_ms", "attention_ms",
    "attention_decode_ms",       "latency_ms_p50",           "latency_ms_p95", "latency_ms_p99"};

class EvalTool {
 public:
  EvalTool(const EvalOptions& options, const Common& common) : o_(options), common_(common) {}

  int run() {
    o_.check();
    for (const std::string& path : o_.models) subjects_.push_back(subject(path));
    if (!o_.baseline.empty()) baseline_ = subject(o_.baseline);
    if (!o_.plot.empty() &&
        std::none_of(subjects_.begin(), subjects_.end(), [](const Subject& s) { return has_mixtures(s.config); }))
      throw usage_error("--plot draws the load of experts, and no model has any");
    choose_windows();
    open_texts_of_all();
    if (common_.dry_run) {
      log_info("would score {} model{} on {}, context {}, {}", subjects_.size(), subjects_.size() == 1 ? "" : "s",
               text_name_, settings_.context, o_.answers ? "answers only" : fmt::format("stride {}", settings_.stride));
      return 0;
    }
    measure();
    write_report();
    if (!o_.plot.empty()) write_plot();
    return check_requirements();
  }

 private:
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
    if (differ && !o_.context) log_info("the models' contexts differ: all are scored with the smallest, {}", smallest);
    settings_.context = o_.context.value_or(smallest);
    settings_.stride = o_.stride.value_or(settings_.context);
    if (settings_.stride > settings_.context)
      throw usage_error("--stride {} is larger than the context of {}: tokens between the windows would not be scored",
                        settings_.stride, settings_.context);
    settings_.limit = o_.limit;
    settings_.type = o_.type();
    settings_.chunk = o_.prefill_chunk;
  }

  void open_texts_of_all() {
    const std::vector<TextSource> sources = open_texts(o_.data);
    for (const Subject* s : all()) {
      if (o_.answers) {
        const std::string key = s->tokenizer_json.dump();
        if (texts_.contains(key)) continue;
        Questions questions = open_questions(sources, s->tokenizer, settings_.context, o_.limit);
        text_name_ = questions.text.name();
        if (questions.shortened > 0)
          log_warning(
              "{} of {} questions are longer than the context of {} tokens, and their prompts lose their beginning; "
              "--context gives more",
              questions.shortened, questions.windows.size(), settings_.context);
        answers_[key] = std::move(questions.windows);
        texts_.emplace(key, std::move(questions.text));
        continue;
      }
      const Corpus& text =
          texts_.try_emplace(s->tokenizer_json.dump(), open_corpus(sources, s->tokenizer)).first->second;
      text_name_ = text.name();
      if (text.size() < 2) throw input_error("'{}' has {} token; scoring needs at least 2", text.name(), text.size());
    }
    same_tokenizer_ = texts_.size() == 1;
    if (!same_tokenizer_)
      log_info("the tokenizers differ: compare bits_per_byte, not metrics of tokens{}",
               o_.limit > 0 ? "; --limit counts tokens, so the models are scored on different amounts of text" : "");
  }

  const Corpus& text_of(const Subject& s) const { return texts_.at(s.tokenizer_json.dump()); }

  EvaluateSettings& settings_for(const Subject& s) {
    if (o_.answers) settings_.answers = answers_.at(s.tokenizer_json.dump());
    return settings_;
  }

  // One model at a time is in memory while speed and memory are measured.
  void measure() {
    if (baseline_) {
      Model model = load_model(baseline_->path);
      measure_alone(*baseline_, model);
      finish_sizes(*baseline_, model);
    }
    for (Subject& s : subjects_) {
      release_pool();
      reset_peak_rss();
      Model model = load_model(s.path);
      settings_.routing = &s.routing;
      if (o_.speed) measure_alone(s, model);
      if (baseline_) {
        score_pair(s, model);
      } else {
        show_progress(s.path);
        AttentionMeter meter;
        settings_.attention = &meter;
        evaluate(*model.transformer, text_of(s), settings_for(s)).add_to(s.values);
        s.values["attention_fraction"] = meter.fraction();
        if (!o_.speed) s.values["peak_rss_bytes"] = static_cast<double>(peak_rss_bytes());
      }
      finish_sizes(s, model);
    }
    settings_.progress = nullptr;
    progress_.reset();
  }

  void measure_alone(Subject& s, Model& model) {
    if (!o_.speed) return;
    log_info("measuring the speed of {}", s.path);
    EvalSpeed speed = measure_speed(*model.transformer, settings_.type, settings_.chunk, common_.seed);
    s.values.merge(speed.values);
    s.speed_prompt = speed.prompt;
    s.speed_generated = speed.generated;
    s.values["peak_rss_bytes"] = static_cast<double>(peak_rss_bytes());
  }

  void score_pair(Subject& s, Model& model) {
    Model other = load_model(baseline_->path);
    show_progress(s.path);
    AttentionMeter meter, baseline_meter;
    settings_.attention = &meter;
    settings_.baseline_attention = &baseline_meter;
    baseline_->routing.clear();
    settings_.baseline_routing = &baseline_->routing;
    const PairedScores scores = evaluate_pair(*model.transformer, *other.transformer, text_of(s), settings_for(s));
    scores.model.add_to(s.values);
    scores.baseline.add_to(baseline_->values);
    s.values["attention_fraction"] = meter.fraction();
    baseline_->values["attention_fraction"] = baseline_meter.fraction();
    s.comparison = compare(scores.model, scores.baseline, scores.divergences);
    add_comparison(s.values, *s.comparison);
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
    add_routing(s.values, s.routing);
    s.values["weight_bytes"] = static_cast<double>(size.weight_bytes);
    s.values["threads"] = common_.threads;
    if (o_.answers) s.values["answers"] = static_cast<double>(answers_.at(s.tokenizer_json.dump()).size());
    s.values["seed"] = static_cast<double>(common_.seed);
  }

  void show_progress(const std::string& path) {
    progress_ = std::make_unique<Progress>();
    settings_.progress = [this, path](int64_t done, int64_t windows) {
      progress_->show(fmt::format("scoring {}: {} of {} windows", path, done, windows));
    };
  }

  Row row_of(const Subject& s) const {
    Row row;
    row.set("model", s.path);
    const auto whole = [&](std::string_view name) {
      if (const auto found = s.values.find(name); found != s.values.end()) row.set(name, std::llround(found->second));
    };
    for (const std::string_view name : whole_metrics) whole(name);
    row.set("sparsity", s.values.at("sparsity"));
    row.set("attention", attention_of(s.config)).set("attention_fraction", s.values.at("attention_fraction"));
    whole("weight_bytes");
    if (!same_tokenizer_) row.set("tokenizer", s.tokenizer->name());
    if (o_.answers) whole("answers");
    whole("tokens");
    row.set_metrics(s.values, quality_metrics);
    set_routing(row, s.routing);
    row.set_metrics(s.values, speed_metrics);
    whole("peak_rss_bytes");
    if (s.comparison) row.set_comparison(*s.comparison);
    if (o_.speed) row.set("speed_prompt_tokens", s.speed_prompt).set("speed_generated_tokens", s.speed_generated);
    return row;
  }

  void write_report() {
    Report report;
    for (const Subject* s : all()) report.add(row_of(*s));
    for (const char* detail : {"speed_prompt_tokens", "speed_generated_tokens"})
      if (o_.speed) report.show_detail(detail);
    hide_routing_details(report);
    report.fix_csv(eval_columns());
    Row& common = report.common();
    common.set("data", text_name_).set("context", settings_.context);
    if (o_.answers)
      common.set("scored", "answers");
    else
      common.set("stride", settings_.stride);
    if (o_.limit > 0) common.set("limit", o_.limit);
    if (same_tokenizer_) common.set("tokenizer", subjects_.front().tokenizer->name());
    common.set("precision", std::string(name_of(settings_.type)));
    if (baseline_) common.set("baseline", baseline_->path);
    common.set("threads", common_.threads)
        .set("isa", std::string(name_of(isa())))
        .set("seed", static_cast<int64_t>(common_.seed));
    const std::string text = render(report, format_named(o_.format));
    if (o_.output == "-")
      print_result(text);
    else
      write_text_file(o_.output, text, o_.force);
  }

  void write_plot() const {
    std::vector<std::pair<std::string, ModelRouting>> models;
    for (const Subject& s : subjects_) models.emplace_back(s.path, s.routing);
    write_text_file(o_.plot, experts_plot(models), o_.force);
  }

  // Each on standard error; the report stands already.
  int check_requirements() const {
    size_t failed = 0, count = 0;
    std::string first;
    for (const Requirement& requirement : o_.requirements())
      for (const Subject& s : subjects_) {
        const RequirementResult result = requirement.evaluate(s.values, baseline_ ? baseline_->values : MetricValues());
        const std::string text = fmt::format("{}: {}", s.path, describe(result));
        log_line(result.passed ? LogLevel::info : LogLevel::error, text);
        if (!result.passed && failed++ == 0) first = text;
        ++count;
      }
    if (failed > 0)
      throw Error(ErrorKind::requirement, fmt::format("{} of {} requirements failed, first {}", failed, count, first));
    return 0;
  }

  const EvalOptions& o_;
  const Common& common_;
  std::vector<Subject> subjects_;
  std::optional<Subject> baseline_;
  EvaluateSettings settings_;
  std::map<std::string, Corpus> texts_;                     // by tokenizer
  std::map<std::string, std::vector<EvalWindow>> answers_;  // windows of these, with --answers
  std::string text_name_;
  bool same_tokenizer_ = true;
  std::unique_ptr<Progress> progress_;
};

}  // namespace

int eval(int argc, char** argv) {
  const Tool tool = {
      .name = "eval",
      .summary = "Scores models on text: quality, speed and size, side by side or against a baseline.",
      .example =
          "  eval dense.h5 small.h5 --data test.txt\n"
          "  eval small.h5 --data test.txt --baseline dense.h5 --require 'bits_per_byte <= 1.02*baseline'\n",
      .setup = [](CLI::App& app, const Common& common) -> std::function<int()> {
        auto options = std::make_shared<EvalOptions>();
        options->add(app);
        return [options, &common] { return EvalTool(*options, common).run(); };
      },
      .required = {"MODEL", "--data"},
      .exclusions = {{"--answers", "--stride"}}};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
