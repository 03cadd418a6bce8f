#include "cli/quantize.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "cli/activation_options.h"
#include "cli/budget_options.h"
#include "cli/calibration_options.h"
#include "cli/distill_options.h"
#include "cli/effects.h"
#include "cli/measure_options.h"
#include "cli/model_files.h"
#include "compress/quantize.h"
#include "report/report.h"

namespace hone::cli {
namespace {

// "bf16 (rounded to 16 bits), …, or keep"
std::string described_types() {
  std::string text;
  for (const kernels::ElementInfo& e : kernels::element_table) text += fmt::format("{} ({}), ", e.name, e.what);
  return text + "or keep";
}

std::vector<std::string> or_same(std::vector<std::string> names) {
  names.emplace_back("same");
  return names;
}

// What --method auto is.
constexpr const char *best_method = "gptq", *data_free_method = "search";

struct QuantizeTool {
  ModelFiles files;
  std::string type = "int8", embedding_type = "same", method = "auto";
  int64_t group = 0;
  std::vector<std::string> overrides;
  bool allow_requantize = false, awq = false;
  std::vector<std::string> prepare;
  DistillOptions distill;
  ActivationOptions activations;
  const CLI::App* app = nullptr;  // that they were added to
  BudgetOptions budget;
  CalibrationOptions calibration;
  MeasureOptions measure;

  void add(CLI::App& to) {
    app = &to;
    files.add_model(to, "Model file to quantize");
    auto* options = to.add_option_group("Quantization");
    options->add_option("--type", type, "Of linear layers: " + described_types())->check(one_of(packed_type_names()));
    options
        ->add_option("--embedding-type", embedding_type,
                     "Of embedding and head: the same names, or same: what --type says")
        ->check(one_of(or_same(packed_type_names())));
    std::vector<std::string> names = {"auto"};
    for (const std::string& name : round_method_names()) names.push_back(name);
    options
        ->add_option("--method", method,
                     fmt::format("auto: {} with --calibration, else {}; {}", best_method, data_free_method,
                                 methods_help(round_methods())))
        ->check(one_of_with_numbers(names));
    options->add_option("--group", group, "Columns that share a scale: 32, 64 or 128; 0: one scale for each output row")
        ->check(one_of({"0", "32", "64", "128"}));
    options
        ->add_option("--override", overrides,
                     "REGEX=TYPE for the weights whose names it is found in; repeatable, the first wins")
        ->type_name("REGEX=TYPE");
    options->add_flag("--allow-requantize", allow_requantize, "Quantize weights that are quantized already");
    std::string changes;
    std::vector<std::string> changed_by;
    for (const Preparation& row : preparations()) {
      changed_by.emplace_back(row.name);
      changes += fmt::format("; {} {}", row.name, row.what);
    }
    auto* before = options->add_option("--prepare", prepare, "Before that, change the model: a comma list" + changes);
    before->delimiter(',')->check(one_of(changed_by));
    options->add_flag("--awq", awq, "The same as --prepare awq")->excludes(before);
    distill.add(options, to);
    activations.add(options, to);
    budget.add(to);
    calibration.add(to);
    measure.add(to);
    files.add(to, "CSV file with a row for each quantized weight (of a budget: each type considered)");
  }

  std::vector<std::string> preparing() const { return awq ? std::vector<std::string>{"awq"} : prepare; }
  std::string preparing_option() const { return awq ? "--awq" : "--prepare"; }

  QuantizeSettings settings() const {
    QuantizeSettings s;
    s.type = packed_type_named(type);
    s.embedding = embedding_type == "same" ? s.type : packed_type_named(embedding_type);
    s.group = group;
    const std::string chosen = method != "auto" ? method : calibration.files.empty() ? data_free_method : best_method;
    s.method = &round_method(method_name(chosen));
    s.number = method_number(chosen, s.method->number);
    s.allow_requantize = allow_requantize;
    for (const std::string& name : preparing()) s.prepare.push_back(&preparation(name));
    s.activations = calibration.type();
    for (const std::string& text : overrides) {
      const size_t equals = text.rfind('=');
      if (equals == std::string::npos) throw usage_error("--override '{}' is not REGEX=TYPE", text);
      s.overrides.emplace_back(name_pattern(text.substr(0, equals), "--override"),
                               for_option("--override", [&] { return packed_type_named(text.substr(equals + 1)); }));
    }
    return s;
  }
};

// Of CSV, in order: the same with and without calibration.
std::vector<std::string> columns() {
  std::vector<std::string> names = {"parameter",      "type",         "form",  "group",
                                    "relative_error", "bytes_before", "bytes", "calibration_tokens",
                                    "calibration"};
  for (const std::string& name : activation_columns()) names.push_back(name);
  for (const Preparation& row : preparations()) names.emplace_back(row.number);
  return names;
}

Report layer_report(const std::vector<QuantizedLayer>& layers, const std::optional<ActivationChoice>& activations) {
  Report report;
  for (const QuantizedLayer& l : layers) {
    Row row;
    row.set("parameter", l.name);
    row.set("type", name_of(l.type));
    row.set("form", l.form);
    row.set("group", l.group);
    row.set("relative_error", l.relative_error);
    row.set("bytes_before", l.bytes_before);
    row.set("bytes", l.bytes);
    set_coverage(row, l.calibration_tokens, l.data_free, l.dampened);
    set_activations(row, activations, l.name);
    for (const auto& [name, number] : l.prepared) row.set(name, number);
    report.add(row);
  }
  for (const char* name : {"bytes_before", "bytes"}) report.show(name, Display::bytes, 0);
  report.fix_csv(columns());
  return report;
}

// An override that matches nothing is a slip of the pen that would go unnoticed.
void refuse_idle_overrides(const QuantizeTool& o, const QuantizeSettings& settings, const Transformer& model) {
  const std::vector<std::string> names = names_of(named_weights(model));
  for (size_t i = 0; i < o.overrides.size(); ++i) {
    const std::regex& pattern = settings.overrides[i].first;
    if (std::ranges::none_of(names, [&](const std::string& name) { return std::regex_search(name, pattern); }))
      throw usage_error("--override '{}' is found in no weight's name; inspect '{}' lists them", o.overrides[i],
                        o.files.model);
  }
}

// Whether a weight may become a type that `is` such a one.
template <class Is>
bool makes(const QuantizeSettings& settings, Is&& is) {
  return is(settings.type) || is(settings.embedding) ||
         std::ranges::any_of(settings.overrides, [&](const auto& entry) { return is(entry.second); });
}

// Groups and calibration are of scales, which bf16 has none of.
bool makes_scales(const QuantizeSettings& settings) {
  return makes(settings, has_scales);
}

void check_method(const QuantizeTool& o, const QuantizeSettings& settings) {
  const RoundMethod& method = *settings.method;
  const bool calibrated = !o.calibration.files.empty();
  if (method.dampens && !calibrated)
    throw usage_error("--method {} needs --calibration FILE: text like the model's training text", method.name);
  if (method.needs.empty() && calibrated && o.preparing().empty())
    throw usage_error("--method {} uses no calibration; leave --calibration out or choose another method", method.name);
}

void refuse_idle_scales(const QuantizeTool& o, const QuantizeSettings& settings) {
  if (makes_scales(settings) || (o.group == 0 && o.method == "auto" && o.calibration.files.empty())) return;
  std::vector<std::string> scaled;
  for (const std::string& name : packed_type_names())
    if (has_scales(packed_type_named(name))) scaled.push_back(name);
  throw usage_error("{} has no effect: no weight becomes {}, and other types have no scales",
                    o.group > 0          ? fmt::format("--group {}", o.group)
                    : o.method != "auto" ? fmt::format("--method {}", o.method)
                                         : "--calibration",
                    fmt::join(scaled, " or "));
}

void check_preparations(const QuantizeTool& o, const QuantizeSettings& settings) {
  if (o.preparing().empty() || o.budget.given()) return;  // as check_distill()
  const std::string option = o.preparing_option();
  if (o.calibration.files.empty())
    throw usage_error("{} needs --calibration FILE: text like the model's training text", option);
  for (const Preparation* row : settings.prepare)
    if (!makes(settings, [&](PackedType type) { return type && row->helps(kernels::info_of(*type)); }))
      throw usage_error("{} has no effect: {} does nothing for the types that weights become", option, row->name);
}

void check_activations(const QuantizeTool& o, const QuantizeSettings& settings) {
  o.activations.check();
  if (!o.activations.asked() || o.budget.given()) return;  // as check_distill()
  if (o.calibration.files.empty() && o.measure.data.empty())
    throw usage_error("--activations int8 needs --data FILE or --calibration FILE: text that the loss is measured on");
  if (!makes(settings, [](PackedType type) { return type && kernels::is_integer_element(name_of(type)); }))
    throw usage_error("--activations int8 has no effect: no weight becomes integers");
}

// Before anything is read.
void check_distill(const QuantizeTool& o, const QuantizeSettings& settings) {
  o.distill.check();
  if (o.distill.steps == 0 || o.budget.given()) return;  // a budget has a text, and finds types by itself
  if (o.calibration.files.empty())
    throw usage_error("--distill needs --calibration FILE: text like the model's training text");
  if (!makes_scales(settings)) throw usage_error("--distill has no effect: no weight becomes a type with scales");
}

std::vector<std::string> choose(const Transformer& model, const QuantizeSettings& settings) {
  try {
    return weights_to_quantize(model, settings);
  } catch (const AlreadyQuantized& error) {
    throw usage_error("{}, or add --allow-requantize", error.what());
  }
}

double mean_error(const std::vector<QuantizedLayer>& layers) {
  double sum = 0;
  for (const QuantizedLayer& layer : layers) sum += layer.relative_error;
  return sum / static_cast<double>(layers.size());
}

// Of the weights that were quantized: bits of masks, codes and scales for each of their elements.
double bits_per_weight(const Transformer& model, const std::vector<QuantizedLayer>& layers) {
  double bits = 0;
  std::vector<std::string> names;
  for (const QuantizedLayer& layer : layers) {
    bits += 8 * static_cast<double>(layer.bytes);
    names.push_back(layer.name);
  }
  return bits / bytes_of_weights(model, names, 1);
}

int run_quantize(const QuantizeTool& o, const Common& common) {
  require_each_once("--prepare", o.prepare);
  QuantizeSettings settings = o.settings();
  check_distill(o, settings);
  check_preparations(o, settings);
  check_activations(o, settings);
  if (o.budget.given()) {
    const bool group = given(*o.budget.app, "--group");
    return quantize_to_budget({o.budget, o.distill, o.activations, o.measure, o.calibration, o.files},
                              std::move(settings), group, common);
  }
  refuse_idle_scales(o, settings);
  check_method(o, settings);
  o.calibration.check(!o.measure.data.empty(), o.measure.speed);
  o.files.check(o.calibration.files, common);
  o.measure.check(o.files, common);
  Model model = o.files.load(!o.calibration.files.empty() || !o.measure.data.empty());
  o.measure.check_model(model);
  settings.keep = o.files.spill();
  CalibrationTexts texts = o.calibration.read_with_rest(model);
  if (o.distill.steps > 0) texts.rest.reset();  // scales are trained on these windows, too
  const std::optional<CalibrationText>& text = texts.text;
  settings.calibration = text ? &*text : nullptr;
  LossMeasure loss(o.measure, o.calibration, texts, model);
  o.activations.check_text(loss.text(), model);
  refuse_idle_overrides(o, settings, *model.transformer);
  const std::vector<std::string> chosen = choose(*model.transformer, settings);
  if (text) o.calibration.require_memory(*model.transformer, &*text, bytes_of_weights(*model.transformer, chosen, 0.5));
  if (common.dry_run) {
    log_info("would quantize {} and write '{}'", counted(chosen.size(), "weight"), o.files.output);
    return 0;
  }
  loss.begin(*model.transformer);
  Progress progress;
  settings.progress = [&](int64_t done, int64_t all) {
    progress.show(fmt::format("quantized {} of {} parts", done, all));
  };
  const std::vector<QuantizedLayer> layers = quantize_model(*model.transformer, settings);
  const nlohmann::json distilled = distill_scales(o.distill, o.calibration, o.files.model, model, common);
  const std::optional<ActivationChoice> activations =
      choose_activations(o.activations, loss.text(), *model.transformer, chosen);
  const Report report = layer_report(layers, activations);
  o.files.show(report);
  warn_of_coverage(layers);
  const ModelSize size = size_of(*model.transformer);
  Stage stage = {"quantize",
                 sha256_of_file(o.files.model),
                 {{"quantized_weights", layers.size()}, {"weight_bytes", size.weight_bytes}},
                 {{"type", o.type},
                  {"method", method_text(settings.method->name, settings.number)},
                  {"weight_bytes", size.weight_bytes},
                  {"bits_per_weight", bits_per_weight(*model.transformer, layers)},
                  {"layer_error", mean_error(layers)}}};
  if (!distilled.is_null()) stage.results["distilled"] = stage.printed["distilled"] = distilled;
  if (activations)
    stage.results["activations"] = stage.printed["activations"] = activation_results(o.activations, activations);
  stage.measured = [&] { return loss_and_speeds(loss, o.measure, o.files, *model.transformer, settings.activations); };
  return finish(model, stage, report, size, o.files, common);
}

// Of the types that are in force.
bool makes_no_scales(const ValuesOf& values) {
  QuantizeTool types;
  if (const auto type = values("--type"); !type.empty()) types.type = type.front();
  if (const auto type = values("--embedding-type"); !type.empty()) types.embedding_type = type.front();
  types.overrides = values("--override");
  try {
    return !makes_scales(types.settings());
  } catch (const Error&) {  // is said where it is read
    return false;
  }
}

// What is of scales alone.
std::vector<std::string> scale_options() {
  std::vector<std::string> names = calibration_options();
  names.emplace_back("--group");
  names.emplace_back("--method");
  names.emplace_back("--awq");
  names.emplace_back("--prepare");
  names.emplace_back("--activations");
  names.emplace_back("--max-loss-increase");
  return names;
}

}  // namespace

int quantize(int argc, char** argv) {
  const Tool tool = {
      .name = "quantize",
      .example =
          "  quantize recovered.h5 --output small.h5 --type int8\n"
          "  quantize dense.h5 --output tiny.h5 --type int4 --group 32 --embedding-type int8 "
          "--calibration corpus.txt\n"
          "  quantize dense.h5 --output fits.h5 --max-bytes 2MiB --calibration corpus.txt --data valid.txt\n"
          "  quantize dense.h5 --output fast.h5 --activations int8 --prepare smooth --calibration corpus.txt\n",
      .setup = [](CLI::App& app, const Common& common) -> std::function<int()> {
        auto options = std::make_shared<QuantizeTool>();
        options->add(app);
        return [options, &common] { return run_quantize(*options, common); };
      },
      .exclusions = {{"--type", scale_options(), makes_no_scales},
                     {"--embedding-type", scale_options(), makes_no_scales},
                     {"--override", scale_options(), makes_no_scales},
                     {"--max-bytes", type_options()},
                     {"--target-bits", type_options()}}};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
