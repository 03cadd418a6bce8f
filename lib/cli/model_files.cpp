#include "cli/model_files.h"

#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/log.h"
#include "base/text_output.h"
#include "io/lineage.h"
#include "io/weight_spill.h"
#include "report/late_texts.h"

namespace hone::cli {

void ModelFiles::add_model(CLI::App& app, const std::string& description) {
  app.add_option("model", model, description)->required();
}

void ModelFiles::add(CLI::App& app, const std::string& report_description) {
  auto* files = app.add_option_group("Files");
  files->add_option("-o,--output", output, "Model file to write")->type_name("FILE")->required();
  files->add_flag("--force", force, "Replace existing output");
  files->add_option("--report", report, report_description)->type_name("FILE");
  files->add_option("--format", format, "Of the result on stdout: table or json")->check(one_of({"table", "json"}));
}

void ModelFiles::check(const std::vector<std::string>& calibration, const Common& common) const {
  require_writable(output, force);
  if (!report.empty()) require_text_writable(report, force);
  std::vector<NamedPath> inputs = named("--calibration", calibration);
  inputs.insert(inputs.end(), {{"MODEL", model}, {"--config", common.config}});
  require_distinct({{"--output", output}, {"--report", report}}, inputs);
}

void ModelFiles::show(const Report& layers) const {
  if (report.empty()) log_line(LogLevel::info, render(layers, Format::table));
}

Model ModelFiles::load(bool text_runs_through) const {
  Model loaded = load_model(model, {.defer = !text_runs_through});
  if (text_runs_through) require_finite(loaded);
  return loaded;
}

std::function<std::shared_ptr<Weight>(std::shared_ptr<Weight>)> ModelFiles::spill() const {
  return [spill = std::make_shared<WeightSpill>(output)](std::shared_ptr<Weight> weight) {
    return spill->put(std::move(weight));
  };
}

WrittenFile save_stage(Model& model, const Stage& stage, const std::string& output, bool force, const Common& common) {
  model.lineage.push_back(lineage_entry(stage.tool, common.arguments, stage.parent_sha256, common.seed, stage.results));
  return save_model(output, model, force);
}

int finish(Model& model, const Stage& stage, const Report& layers, const ModelSize& size, const ModelFiles& files,
           const Common& common, const LateText& beside) {
  const WrittenFile written = save_stage(model, stage, files.output, files.force, common);
  LateTexts late(files.force);
  late.saved(files.output, written.path);
  late.write("--report", files.report, render(layers, Format::csv));
  late.write(beside.option, beside.path, beside.text);
  nlohmann::json printed = stage.printed;
  if (stage.measured) printed.update(stage.measured());
  print_result(describe_written(written, size, printed, files.format == "json"));
  return late.status();
}

}  // namespace hone::cli
