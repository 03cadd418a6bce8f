#include "cli/prune.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/calibration_options.h"
#include "cli/late_texts.h"
#include "cli/report_columns.h"
#include "compress/prune.h"
#include "io/lineage.h"
#include "report/report.h"

namespace hone::cli {
namespace {

struct PruneOptions {
  std::string model, output, method = "magnitude", pattern = "unstructured", targets = "^blocks\\.", keep, report,
                             format = "table";
  std::optional<double> sparsity;
  bool force = false;
  CalibrationOptions calibration;

  void add(CLI::App& app) {
    std::string methods;
    std::vector<std::string> names;
    for (const ScoreMethod& m : score_methods()) {
      names.emplace_back(m.name);
      methods += fmt::format("{}{}: {}", methods.empty() ? "" : "; ", m.name, m.summary);
    }
    app.add_option("model", model, "Model file to prune")->required();
    auto* group = app.add_option_group("Pruning");
    group->add_option("--method", method, methods)->check(one_of(names));
    group->add_option("--pattern", pattern, pattern_syntax());
    add_fraction(group, "--sparsity", sparsity,
                 "Fraction of each chosen weight that is pruned, in [0, 1); N:M patterns have their own");
    group->add_option("--targets", targets, "Weights to prune: a regular expression searched for in their names");
    group->add_option("--keep", keep, "Weights to leave alone, though --targets finds them");
    calibration.add(app);
    auto* files = app.add_option_group("Files");
    files->add_option("-o,--output", output, "Model file to write")->type_name("FILE")->required();
    files->add_flag("--force", force, "Replace existing output");
    files->add_option("--report", report, "CSV file with a row for each pruned weight");
    files->add_option("--format", format, "Of the result on stdout: table or json")->check(one_of({"table", "json"}));
  }
};

Report layer_report(const std::vector<PrunedLayer>& layers) {
  Report report;
  for (const PrunedLayer& l : layers) {
    Row row;
    row.set("parameter", l.name);
    row.set("rows", l.rows);
    row.set("cols", l.cols);
    row.set("sparsity_before", l.sparsity_before);
    row.set("sparsity", l.sparsity);
    row.set("score_kept", l.score_kept);
    set_coverage(row, l.calibration_tokens, l.data_free);
    report.add(row);
  }
  report.fix_csv(prune_columns());
  return report;
}

int run(const PruneOptions& o, const Common& common) {
  const ScoreMethod& method = score_method(o.method);
  const std::shared_ptr<const Pattern> pattern = parse_pattern(o.pattern);
  PruneSettings settings;
  settings.method = &method;
  settings.pattern = pattern.get();
  settings.sparsity = resolve_sparsity(*pattern, o.sparsity);
  settings.rule = {name_pattern(o.targets, "--targets"), name_pattern(o.keep.empty() ? "^$" : o.keep, "--keep")};
  settings.type = o.calibration.type();
  if (method.needs_calibration && o.calibration.files.empty())
    throw usage_error("--method {} needs --calibration FILE: text like the model's training text", method.name);
  if (!method.needs_calibration && !o.calibration.files.empty())
    throw usage_error("--method {} uses no calibration; leave --calibration out or choose another method", method.name);
  check_model_files(o.model, o.output, o.report, o.force, o.calibration, common);
  Model model = load_model(o.model);
  require_finite(model);
  const std::optional<CalibrationText> text = o.calibration.read(model);
  settings.calibration = text ? &*text : nullptr;
  const std::vector<std::string> chosen = weights_to_prune(*model.transformer, settings);
  const double weights = bytes_of_weights(*model.transformer, chosen, 4);
  o.calibration.require_memory(*model.transformer, settings.calibration, weights);
  if (common.dry_run) {
    log_info("would prune {} weights to {:.1f}% ({}, {}) and write '{}'", chosen.size(), 100 * settings.sparsity,
             method.name, pattern->name(), o.output);
    return 0;
  }
  Progress progress;
  settings.progress = [&](int64_t done, int64_t all) {
    progress.show(fmt::format("pruned {} of {} parts", done, all));
  };
  const std::vector<PrunedLayer> layers = prune_model(*model.transformer, settings);
  const Report report = layer_report(layers);
  if (o.report.empty()) log_line(LogLevel::info, render(report, Format::table));
  warn_of_coverage(layers);
  const auto beyond = std::count_if(layers.begin(), layers.end(),
                                    [&](const PrunedLayer& l) { return l.sparsity_before > settings.sparsity; });
  if (beyond > 0)
    log_warning("{} of {} weights were pruned by more than --sparsity {} before, and stay so", beyond, layers.size(),
                settings.sparsity);
  const ModelSize size = size_of(*model.transformer);
  const nlohmann::json results = {{"sparsity", size.sparsity()}, {"pruned_weights", layers.size()}};
  model.lineage.push_back(lineage_entry("prune", common.arguments, sha256_of_file(o.model), common.seed, results));
  const WrittenFile written = save_model(o.output, model, o.force);
  LateTexts late(o.force);
  late.saved(o.output, written);
  late.write("--report", o.report, render(report, Format::csv));
  print_result(
      describe_written(written, size, {{"method", method.name}, {"pattern", pattern->name()}}, o.format == "json"));
  return late.status();
}

}  // namespace

int prune(int argc, char** argv) {
  const Tool tool = {"prune", "Prunes a model: sets the weights that matter least to zero and stores which, as masks.",
                     "  prune dense.h5 --output sparse.h5 --sparsity 0.6\n"
                     "  prune large.h5 --output sparse.h5 --method wanda --sparsity 0.6 --calibration corpus.txt\n"
                     "  prune dense.h5 --output half.h5 --pattern 2:4\n",
                     [](CLI::App& app, const Common& common) -> std::function<int()> {
                       auto options = std::make_shared<PruneOptions>();
                       options->add(app);
                       return [options, &common] { return run(*options, common); };
                     }};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
