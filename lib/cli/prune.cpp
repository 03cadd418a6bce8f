#include "cli/prune.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "base/units.h"
#include "cli/calibration_options.h"
#include "cli/measure_options.h"
#include "cli/model_files.h"
#include "cli/structure_options.h"
#include "compress/allocation.h"
#include "compress/prune.h"
#include "report/report.h"

namespace hone::cli {
namespace {

// What --method auto is.
constexpr const char *best_method = "alps", *data_free_method = "magnitude";

struct PruneOptions {
  ModelFiles files;
  std::string method = "auto", update = "none", allocation = "uniform", pattern = "unstructured",
              targets = weights_of_blocks, keep;
  std::optional<double> sparsity;
  StructureOptions structure;
  CalibrationOptions calibration;
  MeasureOptions measure;

  void choose_method(PruneSettings& s) const {
    const std::string chosen = method != "auto" ? method : calibration.files.empty() ? data_free_method : best_method;
    s.method = &prune_method(method_name(chosen));
    s.number = method_number(chosen, s.method->number);
  }

  void add(CLI::App& app) {
    std::vector<std::string> names = {"auto"};
    for (const PruneMethod& m : prune_methods()) names.emplace_back(m.name);
    files.add_model(app, "Model file to prune");
    auto* group = app.add_option_group("Pruning");
    group
        ->add_option("--method", method,
                     fmt::format("auto: {} with --calibration, else {}; {}", best_method, data_free_method,
                                 methods_help(prune_methods())))
        ->check(one_of_with_numbers(names));
    group
        ->add_option("--update", update,
                     "Of the weights that stay: none, or least-squares: the values with the least error in the "
                     "outputs of their layer, by --calibration")
        ->check(one_of({"none", "least-squares"}));
    std::string kinds;
    std::vector<std::string> kind_names;
    for (const Allocation& kind : allocations()) {
      kind_names.emplace_back(kind.name);
      kinds += fmt::format("{}{}: {}", kinds.empty() ? "" : "; ", kind.name, kind.summary);
    }
    group->add_option("--allocation", allocation, "Of --sparsity over weights. " + kinds)->check(one_of(kind_names));
    group->add_option("--pattern", pattern, pattern_syntax());
    add_fraction(group, "--sparsity", sparsity,
                 "Fraction of each chosen weight that is pruned, in [0, 1); N:M patterns have their own");
    group->add_option("--targets", targets, "Weights to prune: a regular expression searched for in their names");
    group->add_option("--keep", keep, "Weights to leave alone, though --targets finds them");
    structure.add(app);
    calibration.add(app);
    measure.add(app);
    files.add(app, "CSV file with a row for each pruned weight (of structures: each layer, and each one considered)");
  }
};

// Of CSV, in order: the same with and without calibration.
std::vector<std::string> columns() {
  return {"parameter",  "rows",         "cols",  "sparsity_before",    "sparsity",
          "score_kept", "error_masked", "error", "calibration_tokens", "calibration"};
}

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
    if (l.measured()) {
      row.set("error_masked", *l.error_masked);
      row.set("error", *l.error);
    }
    set_coverage(row, l.calibration_tokens, l.data_free, l.dampened);
    report.add(row);
  }
  report.show("sparsity_before", Display::fraction, 1);
  report.fix_csv(columns());
  return report;
}

double sparsity_of(const Pattern& pattern, std::optional<double> asked) {
  if (!asked && !pattern.fixed_sparsity())
    throw usage_error("pattern {} needs a sparsity; give one, such as --sparsity 0.6", pattern.name());
  if (asked && *asked >= 0 && *asked < 1 && contradicts(pattern, *asked))
    throw usage_error(
        "pattern {} has a sparsity of {:.4g} by itself, which --sparsity {:.4g} contradicts; leave --sparsity out",
        pattern.name(), *pattern.fixed_sparsity(), *asked);
  return for_option("--sparsity", [&] { return resolve_sparsity(pattern, asked); });
}

std::vector<std::string> choose(const Transformer& model, const PruneSettings& settings) {
  const std::vector<std::string> names = names_of(named_weights(model));
  if (std::ranges::none_of(names, [&](const std::string& name) { return settings.rule.chosen(name); }))
    throw usage_error("--targets and --keep leave no weight to prune; the model has {}", fmt::join(names, ", "));
  try {
    return weights_to_prune(model, settings);
  } catch (const PatternMisfit& error) {
    throw usage_error("{}; leave it out with --keep or choose another pattern", error.what());
  }
}

// A sparsity of each weight, where it is not the same for all.
void check_allocation(const PruneOptions& o, const Pattern& pattern) {
  if (o.allocation == "uniform") return;
  if (pattern.fixed_sparsity())
    throw usage_error("--allocation {} has no effect: pattern {} has a sparsity of its own", o.allocation,
                      pattern.name());
  if (allocation_named(o.allocation).needs_calibration && o.calibration.files.empty())
    throw usage_error("--allocation {} needs --calibration FILE: text like the model's training text", o.allocation);
}

void check_calibration(const PruneOptions& o, const PruneMethod& method, bool update) {
  const bool given = !o.calibration.files.empty();
  if (method.needs_calibration() && !given)
    throw usage_error("--method {} needs --calibration FILE: text like the model's training text", method.name);
  if (update && !given)
    throw usage_error("--update {} needs --calibration FILE: text like the model's training text", o.update);
  if (!method.needs_calibration() && !update && o.allocation == "uniform" && given)
    throw usage_error("--method {} uses no calibration; leave --calibration out or choose another method", method.name);
  if (update && method.solves)
    log_warning("--update {} has no effect: --method {} ends with it", o.update, method.name);
}

nlohmann::json sparsities_of(const std::vector<PrunedLayer>& layers) {
  nlohmann::json sparsities = nlohmann::json::object();
  for (const PrunedLayer& layer : layers) sparsities[layer.name] = layer.sparsity;
  return sparsities;
}

// With the means over layers of the errors in their outputs, and what allocation has to tell.
nlohmann::json results_of(const std::vector<PrunedLayer>& layers, const Allotted& allotted, nlohmann::json printed) {
  printed["layer_sparsity"] = sparsities_of(layers);
  if (allotted.kl) {
    printed["kl_search"] = *allotted.kl;
    printed["kl_uniform"] = *allotted.kl_uniform;
  }
  double masked = 0, after = 0, measured = 0;
  for (const PrunedLayer& layer : layers) {
    if (!layer.measured()) continue;
    masked += *layer.error_masked;
    after += *layer.error;
    ++measured;
  }
  if (measured > 0) {
    printed["layer_error_masked"] = masked / measured;
    printed["layer_error"] = after / measured;
  }
  return printed;
}

int run_prune(const PruneOptions& o, const Common& common) {
  if (o.structure.given()) return prune_structures(o.structure, o.calibration, o.measure, o.files, common);
  const std::shared_ptr<const Pattern> pattern = for_option("--pattern", [&] { return parse_pattern(o.pattern); });
  PruneSettings settings;
  o.choose_method(settings);
  const PruneMethod& method = *settings.method;
  settings.pattern = pattern.get();
  settings.sparsity = sparsity_of(*pattern, o.sparsity);
  settings.update = o.update == "least-squares";
  settings.rule = {name_pattern(o.targets, "--targets"), name_pattern(o.keep.empty() ? "^$" : o.keep, "--keep")};
  settings.type = o.calibration.type();
  check_calibration(o, method, settings.update);
  check_allocation(o, *pattern);
  o.calibration.check(!o.measure.data.empty(), o.measure.speed);
  o.files.check(o.calibration.files, common);
  o.measure.check(o.files, common);
  Model model = o.files.load(!o.calibration.files.empty() || !o.measure.data.empty());
  o.measure.check_model(model);
  settings.keep = o.files.spill();
  const CalibrationTexts texts = o.calibration.read_with_rest(model);
  const std::optional<CalibrationText>& text = texts.text;
  settings.calibration = text ? &*text : nullptr;
  LossMeasure loss(o.measure, o.calibration, texts, model);
  const std::vector<std::string> chosen = choose(*model.transformer, settings);
  if (text) o.calibration.require_memory(*model.transformer, &*text, bytes_of_weights(*model.transformer, chosen, 4));
  if (common.dry_run) {
    log_info("would prune {} to {:.1f}% ({}, {}) and write '{}'", counted(chosen.size(), "weight"),
             100 * settings.sparsity, method.name, pattern->name(), o.files.output);
    return 0;
  }
  loss.begin(*model.transformer);
  Progress progress;
  settings.progress = [&](int64_t done, int64_t all) {
    progress.show(fmt::format("measured {} of {} parts", done, all));
  };
  const Allotted allotted = allocation_named(o.allocation).run(*model.transformer, settings);
  settings.own = allotted.sparsities;
  settings.progress = [&](int64_t done, int64_t all) {
    progress.show(fmt::format("pruned {} of {} parts", done, all));
  };
  const std::vector<PrunedLayer> layers = prune_model(*model.transformer, settings);
  const Report report = layer_report(layers);
  o.files.show(report);
  warn_of_coverage(layers);
  const auto beyond = std::count_if(layers.begin(), layers.end(), [&](const PrunedLayer& l) {
    return l.sparsity_before > settings.sparsity_of(l.name);
  });
  if (beyond > 0)
    log_warning(
        "{} of {} weights were pruned by more than {} before, and stay so", beyond, layers.size(),
        o.allocation == "uniform" ? fmt::format("--sparsity {}", settings.sparsity) : "--allocation gives them");
  const ModelSize size = size_of(*model.transformer);
  Stage stage = {"prune",
                 sha256_of_file(o.files.model),
                 {{"method", method_text(method.name, settings.number)},
                  {"sparsity", size.sparsity()},
                  {"pruned_weights", layers.size()},
                  {"allocation", o.allocation},
                  {"layer_sparsity", sparsities_of(layers)}},
                 results_of(layers, allotted,
                            {{"method", method_text(method.name, settings.number)},
                             {"allocation", o.allocation},
                             {"update", method.solves ? "least-squares" : o.update},
                             {"pattern", pattern->name()}})};
  stage.measured = [&] { return loss_and_speeds(loss, o.measure, o.files, *model.transformer, settings.type); };
  return finish(model, stage, report, size, o.files, common);
}

// A pattern such as 2:4 decides the sparsity.
bool contradict(const ValuesOf& values) {
  std::shared_ptr<const Pattern> pattern;
  double sparsity = 0;
  try {
    pattern = parse_pattern(values("--pattern").front());
    sparsity = parse_fraction(values("--sparsity").front());
  } catch (const Error&) {  // is said where it is read
    return false;
  }
  if (!pattern->fixed_sparsity()) return false;
  try {
    resolve_sparsity(*pattern, sparsity);
  } catch (const Error&) {
    return true;
  }
  return false;
}

bool needs_no_calibration(const ValuesOf& values) {
  for (const auto& [option, idle] : {std::pair("--update", "none"), std::pair("--allocation", "uniform")})
    if (const auto given = values(option); !given.empty() && given.front() != idle) return false;
  for (const PruneMethod& method : prune_methods())
    if (method_name(values("--method").front()) == method.name) return !method.needs_calibration();
  return false;
}

}  // namespace

int prune(int argc, char** argv) {
  const Tool tool = {
      .name = "prune",
      .example =
          "  prune dense.h5 --output sparse.h5 --sparsity 0.6 --calibration corpus.txt\n"
          "  prune dense.h5 --output half.h5 --pattern 2:4\n"
          "  prune dense.h5 --output narrow.h5 --structure neurons:40%,heads:25% --calibration corpus.txt\n",
      .setup = [](CLI::App& app, const Common& common) -> std::function<int()> {
        auto options = std::make_shared<PruneOptions>();
        options->add(app);
        return [options, &common] { return run_prune(*options, common); };
      },
      .exclusions = {{"--pattern", {"--sparsity"}, contradict},
                     {"--sparsity", {"--pattern"}, contradict},
                     {"--structure", mask_options()},
                     {"--target-speedup", mask_options()},
                     {"--method", calibration_options(), needs_no_calibration}}};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
