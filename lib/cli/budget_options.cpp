#include "cli/budget_options.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/text_output.h"
#include "base/units.h"
#include "cli/budget_run.h"
#include "cli/effects.h"
#include "report/late_texts.h"

namespace hone::cli {
namespace {

std::vector<std::string> element_names() {
  std::vector<std::string> names;
  for (const kernels::ElementInfo& element : kernels::element_table) names.emplace_back(element.name);
  return names;
}

// In the order of the table.
std::vector<kernels::PackedElement> elements_named(const std::vector<std::string>& names) {
  std::vector<kernels::PackedElement> elements;
  for (const kernels::PackedElement element : kernels::all_elements)
    if (std::ranges::find(names, kernels::info_of(element).name) != names.end()) elements.push_back(element);
  return elements;
}

// Ascending.
std::vector<double> fractions_pruned(const std::vector<std::string>& texts) {
  constexpr size_t most = 32;  // each is a pruning, and as many roundings as there are types and groups
  std::set<double> fractions;
  for (const std::string& text : texts) {
    const double fraction = parse_fraction(text);
    if (fraction >= 1) throw usage_error("{} leaves nothing of a weight; a sparsity is below 1", text);
    if (!fractions.insert(fraction).second) throw usage_error("{} stands there twice", text);
  }
  if (fractions.size() > most) throw usage_error("{} fractions; {} can be considered", fractions.size(), most);
  return {fractions.begin(), fractions.end()};
}

PruneSettings pruning(const std::string& method, const Pattern& pattern, DType type) {
  PruneSettings s;
  s.method = &prune_method(method_name(method));
  s.number = for_option("--prune-method", [&] { return method_number(method, s.method->number); });
  s.pattern = &pattern;
  s.rule = {name_pattern(weights_of_blocks, "--sparsities"), name_pattern("^$", "--sparsities")};
  s.update = true;
  s.type = type;
  return s;
}

}  // namespace

void BudgetOptions::add(CLI::App& to) {
  app = &to;
  auto* group = to.add_option_group("Budget");
  auto* bytes = group->add_option("--max-bytes", max_bytes_text,
                                  "Find the type of each weight so that the file has at most so many bytes: 4MiB");
  bytes->type_name("BYTES");
  add_number(group, "--target-bits", target_bits, "The same for the bits of a weight on average, scales included: 4.25",
             {.above = 0, .most = 32})
      ->excludes(bytes);
  add_fraction(group, "--min-accuracy", min_accuracy,
               "Status 4 and no model where fewer next tokens of --data are predicted right");
  group->add_option("--plot", plot, "SVG file: loss over bytes, of uniform types and of what the search finds")
      ->type_name("FILE");
  group->add_option("--types", types, "Types to be considered, with commas between; all where none is named")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(one_of(element_names()));
  group
      ->add_option(
          "--sparsities", sparsities,
          "Prune weights of blocks as well, each to the one of these fractions that serves it best, with commas "
          "between: 0,0.5,0.7; 0 is as it is")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("FRACTIONS");
  std::vector<std::string> methods;
  for (const PruneMethod& method : prune_methods()) methods.emplace_back(method.name);
  group
      ->add_option("--prune-method", pruned_by,
                   "Of --sparsities; the weights that stay are then the least squares of the mask: " +
                       methods_help(prune_methods()))
      ->check(one_of_with_numbers(methods));
}

bool BudgetOptions::given() const {
  if (!max_bytes_text.empty() || target_bits) return true;
  for (const char* option : {"--min-accuracy", "--plot", "--types", "--sparsities", "--prune-method"})
    if (cli::given(*app, option))
      throw usage_error("{} has no effect without a budget: --max-bytes or --target-bits", option);
  return false;
}

std::vector<std::string> type_options() {
  return {"--type", "--embedding-type", "--override"};
}

int quantize_to_budget(BudgetParts parts, QuantizeSettings settings, bool group_given, const Common& common) {
  const BudgetOptions& o = parts.budget;
  const MeasureOptions& measure = parts.measure;
  const ModelFiles& files = parts.files;
  CalibrationOptions& calibration = parts.calibration;
  for (const std::string& option : type_options())
    if (given(*o.app, option)) throw usage_error("a budget finds the types by itself: leave {} out", option);
  BudgetOptions options = o;
  if (!o.max_bytes_text.empty())
    options.max_bytes = for_option("--max-bytes", [&] { return parse_bytes(o.max_bytes_text); });
  if (calibration.files.empty()) calibration.files = measure.data;
  if (calibration.files.empty())
    throw usage_error("a budget needs --data FILE or --calibration FILE: text that the loss is measured on");
  if (given(*o.app, "--method") && settings.method->needs.empty())
    throw usage_error("a budget measures its types by calibration, which --method {} does not use",
                      settings.method->name);
  if (!given(*o.app, "--method")) settings.method = &round_method("gptq");
  if (o.sparsities.empty() && given(*o.app, "--prune-method"))
    throw usage_error("--prune-method has no effect without --sparsities");
  BudgetSettings found;
  found.quantize = std::move(settings);
  if (group_given) found.groups = {found.quantize.group};
  require_each_once("--types", o.types);
  if (!o.types.empty()) found.elements = elements_named(o.types);
  found.sparsities = for_option("--sparsities", [&] { return fractions_pruned(o.sparsities); });
  const std::shared_ptr<const Pattern> pattern = parse_pattern("unstructured");
  if (!found.sparsities.empty()) found.quantize.prune = pruning(o.pruned_by, *pattern, found.quantize.activations);
  calibration.check();
  files.check(calibration.files, common);
  if (!o.plot.empty()) require_text_writable(o.plot, files.force);
  measure.check(files, common);
  std::vector<NamedPath> inputs = named("--data", measure.data);
  inputs.insert(inputs.end(), {{"MODEL", files.model}, {"--config", common.config}});
  require_distinct({{"--plot", o.plot}, {"--output", files.output}, {"--report", files.report}}, inputs);
  return run_to_budget(parts, options, std::move(found), common);
}

}  // namespace hone::cli
