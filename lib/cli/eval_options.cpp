#include "cli/eval_options.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/spelling.h"
#include "base/target.h"
#include "base/text_output.h"
#include "base/units.h"
#include "cli/effects.h"
#include "cli/eval_tasks.h"
#include "cli/precision.h"
#include "cli/ranks.h"
#include "dataset/tasks.h"
#include "measure/metrics.h"
#include "measure/retrieval.h"
#include "media/medium.h"
#include "model/exit_calibration.h"
#include "report/late_texts.h"

namespace hone::cli {
void EvalOptions::add(CLI::App& app) {
  app_ = &app;
  app.add_option("MODEL", models, "Model files, scored side by side");
  auto* text = app.add_option_group("Text");
  text->add_option("--data", data,
                   "Text to score: JSON lines (member \"text\") or plain files, also gzip or zstd; - is stdin")
      ->type_name("FILE ...");
  const auto count = [&](const char* name, std::optional<int64_t>& value, const char* description) {
    add_count(text, name, value, description, size_range);
  };
  count("--context", context, "Tokens a window (default: the models' context, the smallest where they differ)");
  count("--stride", stride,
        "Tokens from one window to the next; below the context, windows overlap and each token has more before it "
        "(default: the context)");
  add_count(text, "--limit", limit, "Score this many tokens from the start of the text; 0: all");

  text->add_flag(
      "--answers", answers,
      "Score only the answers of JSON lines with \"prompt\" and \"answer\": accuracy counts answers that are "
      "predicted whole. Or with \"prompt\", \"answers\" and \"label\": accuracy counts questions whose right answer is "
      "the most probable one");

  const auto [left, right] = usual_pair();
  text->add_flag(
      "--retrieval", retrieval,
      fmt::format("Of JSON lines with {} and {}, find each {} by its {} and each {} by its {} among all: recall at 1, "
                  "5 and 10, and median rank, of the very one and of any with the same answer",
                  with_article(left->noun), with_article(right->noun), right->noun, left->noun, left->noun,
                  right->noun));

  text->add_option("--task", tasks,
                   fmt::format("NAME=FILE: score a published task instead, its file as it is; repeatable. NAME is {}",
                               fmt::join(task_names(), ", ")))
      ->allow_extra_args(false)
      ->type_name("NAME=FILE")
      ->each([this](const std::string&) { answers = true; });
  add_count(text, "--few-shot", few_shot, "Examples with their answers before each question of a --task",
            {.least = 0, .most = 1000});
  text->add_option("--few-shot-from", examples_from,
                   "NAME=FILE: the file that the examples of a --task are drawn from (default: its own); repeatable")
      ->allow_extra_args(false)
      ->type_name("NAME=FILE");

  auto* compare = app.add_option_group("Comparison");
  compare
      ->add_option("--baseline", baseline,
                   "Model to compare with: adds difference and ratio of each metric with 95% intervals, KL divergence "
                   "and top-1 agreement")
      ->type_name("FILE");
  compare
      ->add_option("--require", require,
                   "Condition on every model, such as 'accuracy >= 0.98*baseline'; repeat it for several. Exit status "
                   "4 if one fails")
      ->allow_extra_args(false)
      ->type_name("EXPR");

  auto* early = app.add_option_group("Exits", "Of models that were trained with --exits, in place of the scores above");
  auto* all = early->add_flag("--exits", exits,
                              "A row for each exit, and for thresholds of leaving early: depth, loss, accuracy, "
                              "agreement with all layers, speed");
  auto* rule = early->add_option("--exit", exit, fmt::format("Score leaving early: {}, or calibrated", exit_forms()))
                   ->type_name("RULE");
  auto* promise =
      add_fraction(early, "--calibrate-exits", calibrate_exits,
                   "Find the threshold with which tokens are predicted as by all layers at least this often, with 95% "
                   "confidence; --output is the model with it");
  all->excludes(rule)->excludes(promise);
  rule->excludes(promise);
  std::vector<std::string> criteria;
  for (const ExitCriterion& row : exit_criteria()) criteria.emplace_back(row.name);
  early
      ->add_option("--exit-criterion", exit_criterion,
                   fmt::format("What --exits and --calibrate-exits compare: {}", either_of(criteria)))
      ->check(one_of(criteria));

  auto* execution = app.add_option_group("Execution");
  add_precision(execution, precision);
  low_bit.add(execution);
  add_count(execution, "--prefill-chunk", prefill_chunk,
            "Tokens of a window or prompt that go through the model at once; bounds the memory of long ones",
            size_range);
  execution->add_flag("--speed,!--no-speed", speed, "Measure the speed of one sequence: a prompt, then 64 tokens");

  execution
      ->add_option("--parallel", parallel,
                   fmt::format("How ranks that mpirun starts divide the model: {}", parallel_parts_forms()))
      ->type_name("KIND:RANKS");

  auto* report = app.add_option_group("Report");
  report->add_option("--format", format, format_list())->check(one_of({"table", "json", "jsonl", "csv", "md"}));
  report->add_option("-o,--output", output, "File for the report; - is stdout")->type_name("FILE");
  report
      ->add_option(
          "--samples", samples,
          "File for a JSON line for each question of --answers or --task; an interrupted run goes on; - is stdout")
      ->type_name("FILE");
  report
      ->add_option(
          "--plot", plot,
          "SVG file with the load of each expert, of models with mixtures of experts; with --exits accuracy by "
          "depth and time")
      ->type_name("FILE");
  report->add_flag("--force", force, "Replace existing output, and begin interrupted --samples anew");
}

void EvalOptions::check() const {
  if (models.empty())
    throw usage_error(
        "no model given: name it before --data, which takes every name that follows, e.g. eval small.h5 --data "
        "test.txt");
  if (data.empty() && tasks.empty()) throw usage_error("--data is missing: give one or more text files");
  if (!tasks.empty() && !data.empty())
    throw usage_error("--data and --task do not go together: score one after the other");
  if (!tasks.empty() && given(*app_, "--answers"))
    throw usage_error("--answers is of --data; a --task is scored by its answers in any case");
  check_tasks();
  if (context.value_or(1) < 1) throw usage_error("--context must be at least 1, not {}", *context);
  if (stride.value_or(1) < 1) throw usage_error("--stride must be at least 1, not {}", *stride);
  if (context && stride && *stride > *context)
    throw usage_error("--stride {} is larger than --context {}: tokens between the windows would not be scored",
                      *stride, *context);
  if (answers && stride) throw usage_error("--stride cuts text and does not go with --answers or --task");
  if (prefill_chunk < 1) throw usage_error("--prefill-chunk must be at least 1, not {}", prefill_chunk);
  if (limit == 1) throw usage_error("--limit 1 leaves nothing to predict; give at least 2");
  if (!samples.empty() && !answers)
    throw usage_error("--samples writes a line for each question of --answers or --task");
  if (!samples.empty() && samples == output)
    throw usage_error("--samples and the report would both go to '{}'; give --output, or --samples another file",
                      samples);
  low_bit.check(precision);
  requirements(answers);
  check_exits();
  check_retrieval();
  if (calibrate_exits) return;
  warn_of_idle(*app_, {{"--force", output == "-" && samples.empty() && plot.empty(), "without a file to write"}});
  require_text_writable(output, force);
  if (!samples.empty()) require_text_writable(samples, force);
  if (!plot.empty()) require_text_writable(plot, force);
  std::vector<NamedPath> inputs = named("MODEL", models), texts = named("--data", data);
  for (const std::string& task : tasks) texts.emplace_back("--task", task_of(task).second);
  for (const std::string& from : examples_from) texts.emplace_back("--few-shot-from", task_of(from).second);
  inputs.insert(inputs.end(), texts.begin(), texts.end());
  inputs.emplace_back("--baseline", baseline);
  require_distinct({{"--output", output}, {"--samples", samples}, {"--plot", plot}}, inputs);
}

void EvalOptions::check_tasks() const {
  const std::vector<std::string> names = names_of_tasks();
  for (size_t i = 0; i < names.size(); ++i)
    if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
        names.begin() + static_cast<std::ptrdiff_t>(i))
      throw usage_error("--task {} is given twice: its scores have one name", names[i]);
  std::vector<std::string> sources;
  for (const std::string& from : examples_from) {
    const std::string name = task_of(from, "--few-shot-from").first;
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw usage_error("--few-shot-from {}: there is no --task {}", name, name);
    if (std::find(sources.begin(), sources.end(), name) != sources.end())
      throw usage_error("--few-shot-from {} is given twice", name);
    sources.push_back(name);
  }
  warn_of_idle(*app_, {{"--few-shot", tasks.empty(), "without --task"},
                       {"--few-shot-from", few_shot == 0 && !tasks.empty(), "without --few-shot"}});
}

std::vector<std::string> EvalOptions::names_of_tasks() const {
  std::vector<std::string> names;
  for (const std::string& task : tasks) names.push_back(task_of(task).first);
  return names;
}

void EvalOptions::check_exits() const {
  warn_of_idle(*app_, {{"--exit-criterion", !exits && !calibrate_exits, "without --exits or --calibrate-exits"}});
  if (!about_exits()) return;
  const char* what = exits ? "--exits" : calibrate_exits ? "--calibrate-exits" : "--exit";
  for (const char* option : {"--baseline", "--answers", "--task", "--samples", "--cache-type"})
    if (given(*app_, option)) throw usage_error("{} does not go with {}", option, what);
  if (!plot.empty() && !exits) throw usage_error("--plot draws what --exits gives; {} gives one number", what);
  if (!exit.empty() && exit != calibrated_rule) for_option("--exit", [&] { parse_exit_rule(exit); });
  warn_of_idle(*app_, {{"--prefill-chunk", true, "on exits"},
                       {"--require", calibrate_exits.has_value(), "with --calibrate-exits"},
                       {"--speed", calibrate_exits.has_value(), "with --calibrate-exits"}});
  if (!calibrate_exits) return;
  if (!(*calibrate_exits > 0 && *calibrate_exits < 1))
    throw usage_error("--calibrate-exits must be above 0 and below 1, not {}", *calibrate_exits);
  if (models.size() > 1) throw usage_error("--calibrate-exits takes one model, not {}", models.size());
  if (output == "-") throw usage_error("--calibrate-exits writes a model: give --output");
  if (format != "table" && format != "json")
    throw usage_error("--calibrate-exits prints what it wrote as table or json, not {}", format);
  require_writable(output, force);
  std::vector<NamedPath> inputs = named("MODEL", models), texts = named("--data", data);
  inputs.insert(inputs.end(), texts.begin(), texts.end());
  require_distinct({{"--output", output}}, inputs);
}

void EvalOptions::check_retrieval() const {
  if (!retrieval) return;
  for (const char* option : {"--baseline", "--answers", "--task", "--samples", "--plot", "--stride", "--limit",
                             "--cache-type", "--exits", "--exit", "--calibrate-exits"})
    if (given(*app_, option)) throw usage_error("{} does not go with --retrieval", option);
  warn_of_idle(*app_, {{"--prefill-chunk", true, "with --retrieval"}, {"--speed", true, "with --retrieval"}});
}

std::pair<std::string, std::string> EvalOptions::task_of(const std::string& text, const char* option) {
  const size_t equals = text.find('=');
  if (equals == text.npos || equals + 1 == text.size()) throw usage_error("{} '{}' is not NAME=FILE", option, text);
  const std::string name = text.substr(0, equals);
  const std::vector<std::string> known = task_names();
  if (std::find(known.begin(), known.end(), name) == known.end())
    throw usage_error("{}: '{}' is not {}{}", option, name, either_of(known), did_you_mean(name, known));
  return {name, text.substr(equals + 1)};
}

void EvalOptions::warn_of_idle_chunk(int64_t longest) const {
  warn_of_idle(*app_,
               {{"--prefill-chunk", !speed && longest <= prefill_chunk, "without --speed where no window is longer"}});
}

DType EvalOptions::type() const {
  return type_of(precision);
}

kernels::ActivationRounding EvalOptions::rounding() const {
  return low_bit.rounding(precision);
}

std::vector<Requirement> EvalOptions::requirements(bool choices) const {
  if (retrieval) {
    std::vector<std::string> names;  // of any two media: which, the models say
    for (const Medium* left : all_media())
      for (const Medium* right : all_media())
        if (place_of(*left) < place_of(*right))
          for (std::string& name : retrieval_metrics(left->name, right->name))
            if (std::ranges::find(names, name) == names.end()) names.push_back(std::move(name));
    const std::vector<std::string_view> known(names.begin(), names.end());
    std::vector<Requirement> result;
    for (const std::string& text : require) result.emplace_back(text, known, false);
    return result;
  }
  if (about_exits()) {
    std::vector<std::string_view> of_exits = {"mean_depth", "loss", "accuracy", "exit_agreement"};
    if (speed) of_exits.emplace_back("decode_tokens_per_second");
    std::vector<Requirement> result;
    for (const std::string& text : require) result.emplace_back(text, of_exits, false);
    return result;
  }
  const auto measured = [&](Origin origin) {
    switch (origin) {
      case Origin::none:
        return false;
      case Origin::answers:
        return answers;
      case Origin::choices:
        return choices;
      case Origin::speed:
        return speed;
      case Origin::memory:
        return speed || baseline.empty();
      case Origin::comparison:
        return !baseline.empty();
      default:
        return true;
    }
  };
  std::vector<std::string_view> known;
  for (const Metric& metric : scored_metrics())
    if (measured(metric.origin)) known.push_back(metric.name);
  const std::vector<std::string> of_tasks =
      tasks.empty() ? std::vector<std::string>() : task_metric_names(names_of_tasks(), !baseline.empty());
  known.insert(known.end(), of_tasks.begin(), of_tasks.end());
  std::vector<Requirement> result;
  const auto why = [this](std::string_view name) -> std::string {
    const auto found = std::ranges::find(scored_metrics(), name, &Metric::name);  // those of media, too
    const Metric* metric = found != scored_metrics().end() ? &*found : find_metric(name);
    if (!metric && !tasks.empty() && std::ranges::count(task_metric_names(names_of_tasks(), true), name) > 0)
      return "needs a baseline model to compare with";
    if (!metric) return "";
    switch (metric->origin) {
      case Origin::none:
        return "is not of eval";
      case Origin::answers:
        return "is measured with --answers or --task";
      case Origin::choices:
        return "is measured on questions with several answers (--answers, --task)";
      case Origin::speed:
        return "is measured with --speed";
      case Origin::memory:
        return "is measured with --speed, or without --baseline";
      default:
        return "";
    }
  };
  for (const std::string& text : require) result.emplace_back(text, known, !baseline.empty(), why);
  return result;
}

// A stride of the file is for its own windows.
bool stride_exceeds_context(const ValuesOf& values) {
  try {
    return parse_count(values("--stride").front()) > parse_count(values("--context").front());
  } catch (const Error&) {  // is said where it is read
    return false;
  }
}

}  // namespace hone::cli
