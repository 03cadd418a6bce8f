#include "cli/quantize.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/calibration_options.h"
#include "cli/late_texts.h"
#include "cli/report_columns.h"
#include "compress/quantize.h"
#include "io/lineage.h"
#include "report/report.h"

namespace hone::cli {
namespace {

struct QuantizeTool {
  std::string model, output, type = "int8", embedding_type = "same", report, format = "table";
  int64_t group = 0;
  std::vector<std::string> overrides;
  bool allow_requantize = false, force = false;
  CalibrationOptions calibration;

  void add(CLI::App& app) {
    app.add_option("model", model, "Model file to quantize")->required();
    auto* options = app.add_option_group("Quantization");
    options->add_option("--type", type, "Of linear layers: int8, int4 (symmetric), bf16, or keep")
        ->check(one_of({"int8", "int4", "bf16", "keep"}));
    options
        ->add_option("--embedding-type", embedding_type,
                     "Of embedding and head: the same names, or same: what --type says")
        ->check(one_of({"int8", "int4", "bf16", "keep", "same"}));
    options->add_option("--group", group, "Columns that share a scale: 32, 64 or 128; 0: one scale for each output row")
        ->check(one_of({"0", "32", "64", "128"}));
    options
        ->add_option("--override", overrides,
                     "REGEX=TYPE for the weights whose names it is found in; repeatable, the first wins")
        ->type_name("REGEX=TYPE");
    options->add_flag("--allow-requantize", allow_requantize, "Quantize weights that are quantized already");
    calibration.add(app);
    auto* files = app.add_option_group("Files");
    files->add_option("-o,--output", output, "Model file to write")->type_name("FILE")->required();
    files->add_flag("--force", force, "Replace existing output");
    files->add_option("--report", report, "CSV file with a row for each quantized weight");
    files->add_option("--format", format, "Of the result on stdout: table or json")->check(one_of({"table", "json"}));
  }

  QuantizeSettings settings() const {
    QuantizeSettings s;
    s.type = packed_type_named(type);
    s.embedding = embedding_type == "same" ? s.type : packed_type_named(embedding_type);
    s.group = group;
    s.allow_requantize = allow_requantize;
    s.activations = calibration.type();
    for (const std::string& text : overrides) {
      const size_t equals = text.rfind('=');
      if (equals == std::string::npos) throw usage_error("--override '{}' is not REGEX=TYPE", text);
      s.overrides.emplace_back(name_pattern(text.substr(0, equals), "--override"),
                               packed_type_named(text.substr(equals + 1)));
    }
    return s;
  }
};

Report layer_report(const std::vector<QuantizedLayer>& layers) {
  Report report;
  for (const QuantizedLayer& l : layers) {
    Row row;
    row.set("parameter", l.name);
    row.set("type", std::string(name_of(l.type)));
    row.set("form", l.form);
    row.set("group", l.group);
    row.set("relative_error", l.relative_error);
    row.set("bytes_before", l.bytes_before);
    row.set("bytes", l.bytes);
    set_coverage(row, l.calibration_tokens, l.data_free);
    report.add(row);
  }
  report.fix_csv(quantize_columns());
  return report;
}

// An override that matches nothing is a slip of the pen that would go unnoticed.
void refuse_idle_overrides(const QuantizeTool& o, const QuantizeSettings& settings, Transformer& model) {
  const std::vector<WeightSlot> slots = weight_slots(model);
  for (size_t i = 0; i < o.overrides.size(); ++i) {
    const std::regex& pattern = settings.overrides[i].first;
    if (!std::any_of(slots.begin(), slots.end(),
                     [&](const WeightSlot& s) { return std::regex_search(s.name, pattern); }))
      throw usage_error("--override '{}' is found in no weight's name; inspect '{}' lists them", o.overrides[i],
                        o.model);
  }
}

// Groups and calibration are of scales, which bf16 has none of.
void refuse_idle_scales(const QuantizeTool& o, const QuantizeSettings& settings) {
  const auto scaled = [](PackedType type) { return type == PackedType::int8 || type == PackedType::int4; };
  const bool any = scaled(settings.type) || scaled(settings.embedding) ||
                   std::any_of(settings.overrides.begin(), settings.overrides.end(),
                               [&](const auto& entry) { return scaled(entry.second); });
  if (any || (o.group == 0 && o.calibration.files.empty())) return;
  throw usage_error("{} has no effect: no weight becomes int8 or int4, and other types have no scales",
                    o.group > 0 ? fmt::format("--group {}", o.group) : "--calibration");
}

int run(const QuantizeTool& o, const Common& common) {
  QuantizeSettings settings = o.settings();
  refuse_idle_scales(o, settings);
  check_model_files(o.model, o.output, o.report, o.force, o.calibration, common);
  Model model = load_model(o.model);
  require_finite(model);
  const std::optional<CalibrationText> text = o.calibration.read(model);
  settings.calibration = text ? &*text : nullptr;
  refuse_idle_overrides(o, settings, *model.transformer);
  const std::vector<std::string> chosen = weights_to_quantize(*model.transformer, settings);
  const double weights = bytes_of_weights(*model.transformer, chosen, 0.5);
  o.calibration.require_memory(*model.transformer, settings.calibration, weights);
  if (common.dry_run) {
    log_info("would quantize {} weights and write '{}'", chosen.size(), o.output);
    return 0;
  }
  Progress progress;
  settings.progress = [&](int64_t done, int64_t all) {
    progress.show(fmt::format("quantized {} of {} parts", done, all));
  };
  const std::vector<QuantizedLayer> layers = quantize_model(*model.transformer, settings);
  const Report report = layer_report(layers);
  if (o.report.empty()) log_line(LogLevel::info, render(report, Format::table));
  warn_of_coverage(layers);
  const ModelSize size = size_of(*model.transformer);
  const nlohmann::json results = {{"quantized_weights", layers.size()}, {"weight_bytes", size.weight_bytes}};
  model.lineage.push_back(lineage_entry("quantize", common.arguments, sha256_of_file(o.model), common.seed, results));
  const WrittenFile written = save_model(o.output, model, o.force);
  LateTexts late(o.force);
  late.saved(o.output, written);
  late.write("--report", o.report, render(report, Format::csv));
  print_result(
      describe_written(written, size, {{"type", o.type}, {"weight_bytes", size.weight_bytes}}, o.format == "json"));
  return late.status();
}

}  // namespace

int quantize(int argc, char** argv) {
  const Tool tool = {
      "quantize", "Quantizes a model: weights in 8 or 4 bits (or bf16), stored and executed packed.",
      "  quantize recovered.h5 --output small.h5 --type int8\n"
      "  quantize dense.h5 --output tiny.h5 --type int4 --group 32 --embedding-type int8 --calibration corpus.txt\n",
      [](CLI::App& app, const Common& common) -> std::function<int()> {
        auto options = std::make_shared<QuantizeTool>();
        options->add(app);
        return [options, &common] { return run(*options, common); };
      }};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
