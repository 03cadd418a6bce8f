#include "cli/eval_exits.h"

#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/random.h"
#include "base/spelling.h"
#include "cli/eval_end.h"
#include "cli/model_files.h"
#include "dataset/corpus.h"
#include "dataset/examples.h"
#include "io/lineage.h"
#include "measure/exits.h"
#include "model/exits.h"
#include "model/store.h"
#include "report/late_texts.h"
#include "report/plot.h"
#include "report/report.h"
#include "serve/generate.h"
#include "train/fingerprint.h"

namespace hone::cli {
namespace {

// Points of a sweep, of the list that calibration tests all of.
constexpr int64_t shown_thresholds = 16;

class ExitEval {
 public:
  ExitEval(const EvalOptions& options, const Common& common) : o_(options), common_(common) {}

  int run() {
    o_.check();
    refuse_parts();
    for (const std::string& path : o_.models) {  // before the first is scored
      ReadOptions read;
      read.parameters = false;
      require_exits(config_from_json(read_model_file(path, read).config, fmt::format("'{}'", path)), for_exits(path));
    }
    for (const std::string& path : o_.models) one(path);
    if (common_.dry_run || o_.calibrate_exits) return 0;
    write_report();
    if (!o_.plot.empty()) end_.write("--plot", o_.plot, render_svg(plots_));
    return end_.status();
  }

 private:
  static std::string for_exits(const std::string& path) { return fmt::format("'{}': eval of exits", path); }

  // Exits are scored by windows of text.
  void refuse_parts() const {
    for (const std::string& path : o_.data)
      if (path != "-" && holds_parts(path))
        throw usage_error("{} scores windows of text, and '{}' has {}: give text",
                          o_.calibrate_exits ? "--calibrate-exits"
                          : !o_.exit.empty() ? "--exit"
                                             : "--exits",
                          path, either_of(media_words(&Medium::plural)));
  }

  void one(const std::string& path) {
    model_ = load_model(path, {.defer = !o_.calibrate_exits.has_value()});
    set_rounding(model_, o_.rounding());
    const Config& config = model_.transformer->config();
    std::optional<ExitRule> rule;
    promise_.reset();
    if (!o_.exit.empty()) rule = rule_of(path);
    text_.emplace(open_corpus(o_.data, make_tokenizer(model_.tokenizer)));
    settings_.context = o_.context.value_or(config.context);
    settings_.stride = o_.stride.value_or(settings_.context);
    settings_.limit = o_.limit;
    settings_.type = o_.type();
    settings_.criterion = rule ? rule->criterion : &exit_criterion(o_.exit_criterion);
    if (o_.calibrate_exits) check_windows(path, config);
    if (common_.dry_run) {
      log_info("would score the exits of '{}' on {}, context {}", path, text_->name(), settings_.context);
      return;
    }
    const ExitScan scan = scanned(path);
    if (o_.calibrate_exits) {
      calibrate(path, scan);
    } else if (rule) {
      const ExitScores scores = scores_of(scan, *rule);
      add_row(path, to_string(*rule), scan, scores, {.rule = rule});
      compare_with_promise(path, scores);
    } else {
      sweep(path, scan);
    }
  }

  // A promise is drawn from windows, each of them one observation.
  void check_windows(const std::string& path, const Config& config) const {
    if (settings_.stride < settings_.context)
      throw usage_error(
          "--stride {} is less than the window of {} tokens: windows that share tokens depend on each other, and "
          "--calibrate-exits counts each as independent; leave out --stride",
          settings_.stride, settings_.context);
    if (settings_.context < config.context)
      log_warning(
          "--context {} is less than the {} tokens that '{}' was made for: short windows lie close together, so that "
          "they depend on each other, and the promise is for text that is read so",
          settings_.context, config.context, path);
  }

  ExitScan scanned(const std::string& path) {
    Progress progress;  // ends before a result is printed
    settings_.progress = [&](int64_t done, int64_t all) {
      progress.show(fmt::format("scoring {}: {} of {} windows", path, done, all));
    };
    ExitScan scan = scan_exits(*model_.transformer, *text_, settings_);
    settings_.progress = nullptr;
    return scan;
  }

  // Of what is scored: the text, or its beginning.
  std::string text_hash() const {
    return fingerprint(settings_.limit > 0 ? text_->slice(0, std::min(settings_.limit, text_->size())) : *text_);
  }

  ExitRule rule_of(const std::string& path) {
    if (o_.exit != calibrated_rule) return parse_exit_rule(o_.exit);
    promise_ = calibration_of(model_.lineage, path);
    return promise_->rule;
  }

  void compare_with_promise(const std::string& path, const ExitScores& scores) const {
    if (!promise_) return;
    if (promise_->text_hash == text_hash())
      log_warning("'{}' was calibrated on this very text: only another text can check its promise", path);
    if (scores.agreement >= promise_->agreement)
      log_info("'{}' keeps its promise of {} on this text: {:.4f}", path, promise_->agreement, scores.agreement);
    else
      log_warning("'{}' promised an agreement of {} on text like that of its calibration; on this text it is {:.4f}",
                  path, promise_->agreement, scores.agreement);
  }

  // Greedy decoding behind prompts of the text, tokens a second.
  double speed(const ExitSettings& exits) const {
    constexpr int64_t prompts = 4, generated = 64;
    GenerateSettings s;
    s.tokens = generated + 1;  // the first belongs to the prompt
    s.sampling.temperature = 0;
    s.ignore_end = true;
    s.type = settings_.type;
    s.exits = exits;
    const Config& config = model_.transformer->config();
    const int64_t length =
        std::min({std::max(config.context - s.tokens + 1, (config.context + 1) / 2), text_->size(), int64_t{128}});
    const auto tokenizer = make_tokenizer(model_.tokenizer);
    double seconds = 0, tokens = 0;
    for (int64_t i = 0; i < prompts; ++i) {
      std::vector<int32_t> ids(static_cast<size_t>(length));
      text_->copy((text_->size() - length) * i / prompts, length, ids.data());
      const Generated text = generate(*model_.transformer, *tokenizer, ids, s, Random(common_.seed, "sampling"));
      tokens += static_cast<double>(text.tokens.size()) - 1;
      seconds += text.decode_seconds;
    }
    return tokens / seconds;
  }

  // The tokens a second, where they are measured.
  double add_row(const std::string& path, const std::string& exit, const ExitScan& scan, const ExitScores& scores,
                 const ExitSettings& settings) {
    Row row;
    row.set("model", path).set("exit", exit).set("mean_depth", scores.mean_depth);
    row.set("loss", scores.loss).set("accuracy", scores.accuracy).set("exit_agreement", scores.agreement);
    MetricValues values = {{"mean_depth", scores.mean_depth},
                           {"loss", scores.loss},
                           {"accuracy", scores.accuracy},
                           {"exit_agreement", scores.agreement}};
    double rate = 0;
    if (o_.speed) {
      rate = speed(settings);
      row.set("decode_tokens_per_second", rate);
      values["decode_tokens_per_second"] = rate;
    }
    row.set("tokens", scan.tokens());
    for (size_t d = 0; d < scan.depths.size(); ++d) {
      const std::string name = fmt::format("share_{}", scan.depths[d]);
      row.set(name, scores.shares[d]);
    }
    report_.add(row);
    for (size_t d = 0; d < scan.depths.size(); ++d) report_.show_detail(fmt::format("share_{}", scan.depths[d]));
    end_.require(path, o_.requirements(false), values);
    return rate;
  }

  // A row for each exit, and one for each of some thresholds.
  void sweep(const std::string& path, const ExitScan& scan) {
    Series depths{.name = path + ", one depth"}, rules{.name = path + ", thresholds"};
    Series timed_depths = depths, timed_rules = rules;
    const auto point = [&](Series& plain, Series& timed, const ExitScores& scores, double rate) {
      plain.x.push_back(scores.mean_depth);
      plain.y.push_back(scores.accuracy);
      if (rate <= 0) return;
      timed.x.push_back(1e3 / rate);
      timed.y.push_back(scores.accuracy);
    };
    for (size_t d = 0; d < scan.depths.size(); ++d) {
      const ExitScores scores = scores_at(scan, d);
      point(depths, timed_depths, scores,
            add_row(path, counted(scan.depths[d], "layer"), scan, scores, {.max_depth = scan.depths[d]}));
    }
    for (const double threshold : exit_thresholds(*settings_.criterion, shown_thresholds)) {
      const ExitRule rule = {settings_.criterion, threshold};
      const ExitScores scores = scores_of(scan, rule);
      point(rules, timed_rules, scores, add_row(path, to_string(rule), scan, scores, {.rule = rule}));
    }
    if (plots_.empty()) {
      plots_.push_back(
          {.title = "Accuracy by depth", .x = {.label = "mean depth (layers)"}, .y = {.label = "accuracy"}});
      if (o_.speed)
        plots_.push_back(
            {.title = "Accuracy by time", .x = {.label = "time of a token (ms)"}, .y = {.label = "accuracy"}});
    }
    plots_[0].series.insert(plots_[0].series.end(), {depths, rules});
    if (o_.speed) plots_[1].series.insert(plots_[1].series.end(), {timed_depths, timed_rules});
  }

  void calibrate(const std::string& path, const ExitScan& scan) {
    const CalibratedExits found = calibrate_exits(scan, *settings_.criterion, *o_.calibrate_exits, settings_.context);
    const nlohmann::json entry = to_json(found.calibration, {{"text", text_->name()},
                                                             {"text_hash", text_hash()},
                                                             {"tokens", scan.tokens()},
                                                             {"windows", found.windows},
                                                             {"context", settings_.context},
                                                             {"limit", settings_.limit},
                                                             {"precision", name_of(settings_.type)},
                                                             {"measured_agreement", found.scores.agreement},
                                                             {"mean_depth", found.scores.mean_depth},
                                                             {"p_value", found.p_value},
                                                             {"thresholds_tested", found.tested}});
    log_info("{}: an agreement of {} with {} confidence, measured {:.4f}; mean depth {:.2f} of {} layers",
             to_string(found.calibration.rule), found.calibration.agreement, found.calibration.confidence,
             found.scores.agreement, found.scores.mean_depth, model_.transformer->layers());
    const Stage stage = {"eval", sha256_of_file(path), {{calibration_member, entry}}};
    const WrittenFile written = save_stage(model_, stage, o_.output, o_.force, common_);
    LateTexts late(o_.force);
    late.saved(o_.output, written.path);
    print_result(describe_written(
        written, size_of(*model_.transformer),
        {{"exit", to_string(found.calibration.rule)}, {"mean_depth", found.scores.mean_depth}}, o_.format == "json"));
    late.status();
  }

  void write_report() {
    Row& common = report_.common();
    common.set("data", text_->name()).set("context", settings_.context).set("stride", settings_.stride);
    if (o_.limit > 0) common.set("limit", o_.limit);
    end_.add_machine(common);
    end_.write(report_);
  }

  const EvalOptions& o_;
  const Common& common_;
  EvalEnd end_{o_, common_};
  Model model_;
  std::optional<Corpus> text_;
  std::optional<ExitCalibration> promise_;  // of the model that is scored
  ExitScanSettings settings_;
  Report report_;
  std::vector<Plot> plots_;
};

}  // namespace

int eval_exits(const EvalOptions& options, const Common& common) {
  return ExitEval(options, common).run();
}

}  // namespace hone::cli
