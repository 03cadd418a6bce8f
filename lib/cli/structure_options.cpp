#include "cli/structure_options.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "cli/effects.h"
#include "compress/speedup.h"

namespace hone::cli {

void StructureOptions::add(CLI::App& to) {
  app = &to;
  auto* group = to.add_option_group("Structures");
  auto* what = group->add_option("--structure", structure, "Take structures out instead: " + structure_syntax())
                   ->type_name("KIND:AMOUNT,...");
  add_number(group, "--target-speedup", target_speedup,
             fmt::format("The same, with as many {} as make prefill and decode so many times as fast on this machine",
                         speedup_structures()),
             {.above = 1, .most = 1000})
      ->excludes(what);
  add_count(group, "--width-multiple", multiple,
            "Widths of feed-forwards and of the stream are rounded to multiples of this where a part is asked for",
            size_range);
}

bool StructureOptions::given() const {
  if (!structure.empty() || target_speedup) return true;
  warn_of_idle(*app, {{"--width-multiple", true, "without --structure or --target-speedup"}});
  return false;
}

std::vector<std::string> mask_options() {
  return {"--method", "--update", "--allocation", "--pattern", "--sparsity", "--targets", "--keep"};
}

namespace {

// Of all kinds, in the order of their rows.
std::vector<LayerSize> layer_sizes() {
  std::vector<LayerSize> all;
  for (const StructureKind& kind : structure_kinds()) all.insert(all.end(), kind.sizes.begin(), kind.sizes.end());
  return all;
}

Report layer_report(const std::vector<StructuredLayer>& layers) {
  Report report;
  for (const StructuredLayer& l : layers) {
    Row row;
    row.set("layer", l.from);
    for (const LayerSize& size : layer_sizes()) {
      row.set(fmt::format("{}_before", size.column), l.before.*size.of);
      row.set(size.column, l.after.*size.of);
    }
    if (l.kl) row.set("divergence", *l.kl);
    for (const auto& [name, error] : l.errors) row.set(name, error);
    set_coverage(row, l.calibration_tokens, l.data_free);
    report.add(row);
  }
  std::vector<std::string> columns = {"layer"};
  for (const LayerSize& size : layer_sizes()) {
    columns.push_back(fmt::format("{}_before", size.column));
    columns.emplace_back(size.column);
  }
  columns.emplace_back("divergence");
  for (const StructureKind& kind : structure_kinds())
    if (!kind.error.empty()) columns.emplace_back(kind.error);
  columns.insert(columns.end(), {"calibration_tokens", "calibration"});
  report.fix_csv(columns);
  return report;
}

// What of each layer that is not as it was stays, for the lineage: "0": "heads 3 of 4, neurons 384 of 640".
nlohmann::json removed(const std::vector<StructuredLayer>& layers) {
  nlohmann::json result = nlohmann::json::object();
  for (const StructuredLayer& l : layers) {
    if (l.before == l.after) continue;
    std::string text;
    for (const LayerSize& size : layer_sizes())
      if (const int64_t before = l.before.*size.of, after = l.after.*size.of; before > 0 && before != after)
        text += fmt::format("{}{} {} of {}", text.empty() ? "" : ", ", size.words, after, before);
    result[std::to_string(l.from)] = l.after.mixes() || l.after.feeds() ? text : "removed";
  }
  return result;
}

const char* option_of(const StructureOptions& o) {
  return o.target_speedup ? "--target-speedup" : "--structure";
}

void check(const StructureOptions& o, const CalibrationOptions& calibration) {
  for (const std::string& option : mask_options())
    if (given(*o.app, option))
      throw usage_error("{} takes weights out whole, without masks: leave {} out", option_of(o), option);
  if (calibration.files.empty())
    throw usage_error("{} needs --calibration FILE: text like the model's training text", option_of(o));
}

// The Gram matrix of the widest feed-forward or attention, its inverse and the update, in doubles; and what kinds take
// beside that.
double working_bytes(const Config& config, const StructureCounts& counts, const CalibrationText& text) {
  double widest = 0;
  for (const LayerBlueprint& l : config.layers)
    widest = std::max({widest, static_cast<double>(l.heads * config.block.head_dim),
                       static_cast<double>(l.ffn * std::max<int64_t>(1, l.shared_experts))});
  double bytes = 3 * 8 * widest * widest;
  for (const auto& [kind, count] : counts)
    if (kind->bytes) bytes += kind->bytes(config, text.windows * text.length);
  return bytes;
}

void warn_of_few_tokens(const CalibrationText& text, const Config& config) {
  int64_t widest = 0;
  for (const LayerBlueprint& l : config.layers) widest = std::max({widest, l.heads * config.block.head_dim, l.ffn});
  const int64_t tokens = text.windows * text.length;
  if (tokens < widest)
    log_warning(
        "{} calibration tokens for a layer of {} inputs: what they do not tell is made up by damping; give more text "
        "or --calibration-windows",
        tokens, widest);
}

class StructureRun {
 public:
  StructureRun(const StructureOptions& o, const CalibrationOptions& calibration, const ModelFiles& files,
               const Common& common)
      : o_(o), calibration_(calibration), files_(files), common_(common), model_(load_model(files.model)) {}

  int run() {
    require_finite(model_);
    require_unquantized(*model_.transformer);
    const Config before = model_.transformer->config();
    dim_before_ = before.block.dim;
    if (!o_.target_speedup) {
      Structure structure = parse_structure(o_.structure);
      structure.multiple = o_.multiple;
      warn_of_idle_multiple(structure);
      text_of_structure_ = o_.structure;
      settings_.counts = structure_counts(structure, before);
    }
    settings_.type = calibration_.type();
    const std::optional<CalibrationText> text = calibration_.read(model_);
    settings_.calibration = &*text;
    calibration_.require_memory(*model_.transformer, settings_.calibration,
                                working_bytes(before, settings_.counts, *text));
    warn_of_few_tokens(*text, before);
    if (common_.dry_run) {
      log_info("would take {} out of {} and write '{}'", o_.target_speedup ? speedup_structures() : o_.structure,
               counted(before.layers.size(), "layer"), files_.output);
      return 0;
    }
    if (o_.target_speedup)
      to_speedup();
    else
      prune();
    return end();
  }

 private:
  void warn_of_idle_multiple(const Structure& structure) const {
    std::vector<std::string> names;
    for (const StructureKind& kind : structure_kinds()) {
      if (kind.rounds && structure.asks(kind.name)) return;
      if (kind.rounds) names.emplace_back(kind.name);
    }
    const std::string why = fmt::format("without {} in --structure", either_of(names));
    warn_of_idle(*o_.app, {{"--width-multiple", true, why}});
  }

  void prune() {
    Progress progress;
    settings_.progress = [&](const std::string& what, int64_t done, int64_t all) {
      progress.show(fmt::format("{} {} of {}", what, done, all));
    };
    result_ = hone::prune_structures(*model_.transformer, settings_);
  }

  // Prompts of half the context, at most 512 tokens, and 16 tokens one by one: what was measured of a shape is measured
  // again of the model that was made, and where that is too slow a little more goes.
  void to_speedup() {
    const Config& config = model_.transformer->config();
    SpeedupSettings s;
    s.target = *o_.target_speedup;
    s.multiple = o_.multiple;
    s.shape.prompt = std::clamp<int64_t>(config.context / 2, 1, 512);
    s.shape.generate = std::min<int64_t>(16, config.context - s.shape.prompt);
    s.shape.type = settings_.type;
    if (s.shape.generate < 1) throw usage_error("a context of 1 leaves nothing to measure a speed of");
    s.progress = [](const std::string& structure, const Speedup& speed) {
      log_info("without {}: prefill {:.2f}, decode {:.2f} times as fast", structure, speed.prefill, speed.decode);
    };
    for (int more = 0;; ++more) {
      const SpeedupChoice choice = structure_for_speedup(*model_.transformer, s, more);
      text_of_structure_ = choice.structure;
      settings_.counts = choice.counts;
      prune();
      const Model before = load_model(files_.model);
      speedup_ = measure_speedup(*before.transformer, *result_.model, s.shape, 5);
      if (speedup_->least() >= s.target) return;
      if (more == 3)
        throw Error(
            ErrorKind::requirement,
            fmt::format("--target-speedup {}: without {} prefill is {:.2f} and decode {:.2f} times as fast, and "
                        "measurements on this machine vary; try again when it is idle",
                        s.target, choice.structure, speedup_->prefill, speedup_->decode));
      model_ = load_model(files_.model);
    }
  }

  int end() {
    model_.transformer = std::move(result_.model);
    const Report report = layer_report(result_.layers);
    files_.show(report);
    for (const StructuredLayer& l : result_.layers)
      if (l.data_free)
        log_warning(
            "layer {}: an expert saw {} calibration tokens, fewer than it has inputs, and lost the neurons of least "
            "weight; give more text or --calibration-windows",
            l.from, l.calibration_tokens.value_or(0));
    const ModelSize size = size_of(*model_.transformer);
    Stage stage = {"prune",
                   sha256_of_file(files_.model),
                   {{"structure", text_of_structure_},
                    {"parameters", size.parameters},
                    {"block_parameters_removed", result_.block_parameters_removed},
                    {"removed", removed(result_.layers)}},
                   {{"structure", text_of_structure_},
                    {"block_parameters_removed", result_.block_parameters_removed},
                    {"layers", model_.transformer->config().layers.size()}}};
    if (const int64_t now = model_.transformer->config().block.dim; now != dim_before_) {
      stage.results["dim"] = fmt::format("{} of {}", now, dim_before_);
      stage.printed["dim"] = now;
    }
    if (speedup_) {  // of this machine: not in the file, which is the same everywhere
      stage.printed["prefill_speedup"] = speedup_->prefill;
      stage.printed["decode_speedup"] = speedup_->decode;
    }
    return finish(model_, stage, report, size, files_, common_);
  }

  const StructureOptions& o_;
  const CalibrationOptions& calibration_;
  const ModelFiles& files_;
  const Common& common_;
  Model model_;
  StructureSettings settings_;
  std::string text_of_structure_;
  int64_t dim_before_ = 0;
  StructuredModel result_;
  std::optional<Speedup> speedup_;
};

}  // namespace

int prune_structures(const StructureOptions& o, const CalibrationOptions& calibration, const ModelFiles& files,
                     const Common& common) {
  check(o, calibration);
  if (!o.target_speedup) for_option("--structure", [&] { parse_structure(o.structure); });  // before files are read
  calibration.check();
  files.check(calibration.files, common);
  return StructureRun(o, calibration, files, common).run();
}

}  // namespace hone::cli
