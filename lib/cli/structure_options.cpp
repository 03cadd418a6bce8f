#include "cli/structure_options.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "base/text_output.h"
#include "cli/effects.h"
#include "compress/speedup.h"
#include "report/late_texts.h"
#include "report/plot.h"

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
  group
      ->add_option("--plot", plot,
                   "SVG file, of --target-speedup: loss over speed-up; makes each structure that was considered")
      ->type_name("FILE");
}

bool StructureOptions::given() const {
  if (!target_speedup && cli::given(*app, "--plot")) throw usage_error("--plot has no effect without --target-speedup");
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

// A structure that the search for a speed-up considered.
struct Considered {
  SpeedupChoice choice;
  bool made = false;  // not a shape with made-up numbers: pruned
  bool chosen = false;
  std::optional<double> loss = {};  // of the pruned model
};

std::vector<std::string> considered_columns() {
  return {"row",     "structure",  "prefill_speedup",   "decode_speedup", "prefill_ms",
          "step_ms", "parameters", "parameters_before", "loss",           "chosen"};
}

void add_considered(Report& report, const std::vector<Considered>& all, int64_t parameters_before) {
  for (const Considered& c : all) {
    Row row;
    row.set("row", c.made ? "model" : "shape");
    row.set("structure", c.choice.structure);
    row.set("prefill_speedup", c.choice.speedup.prefill);
    row.set("decode_speedup", c.choice.speedup.decode);
    row.set("prefill_ms", 1e3 * c.choice.speedup.after.prefill_seconds);
    row.set("step_ms", 1e3 * c.choice.speedup.after.step_seconds);
    row.set("parameters", c.choice.parameters);
    row.set("parameters_before", parameters_before);
    if (c.loss) row.set("loss", *c.loss);
    row.set("chosen", c.chosen ? "chosen" : "");
    report.add(row);
  }
}

// `label`: a row says that it is of a layer, since others stand before it.
void add_layers(Report& report, const std::vector<StructuredLayer>& layers, bool label) {
  for (const StructuredLayer& l : layers) {
    Row row;
    if (label) row.set("row", "layer");
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
  std::vector<std::string> columns = label ? considered_columns() : std::vector<std::string>{};
  columns.emplace_back("layer");
  for (const LayerSize& size : layer_sizes()) {
    columns.push_back(fmt::format("{}_before", size.column));
    columns.emplace_back(size.column);
  }
  columns.emplace_back("divergence");
  for (const StructureKind& kind : structure_kinds())
    if (!kind.error.empty()) columns.emplace_back(kind.error);
  columns.insert(columns.end(), {"calibration_tokens", "calibration"});
  report.fix_csv(columns);
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
  const int64_t tokens = text.rows();
  if (tokens < widest)
    log_warning(
        "{} calibration tokens for a layer of {} inputs: what they do not tell is made up by damping; give more text "
        "or --calibration-windows",
        tokens, widest);
}

class StructureRun {
 public:
  StructureRun(const StructureOptions& o, const CalibrationOptions& calibration, const MeasureOptions& measure,
               const ModelFiles& files, const Common& common)
      : o_(o),
        calibration_(calibration),
        measure_(measure),
        files_(files),
        common_(common),
        model_(load_model(files.model)) {}

  int run() {
    require_finite(model_);
    require_unquantized(*model_.transformer);
    measure_.check_model(model_);
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
    const CalibrationTexts texts = calibration_.read_with_rest(model_);
    const std::optional<CalibrationText>& text = texts.text;
    settings_.calibration = &*text;
    LossMeasure loss(measure_, calibration_, texts, model_);
    if (!o_.plot.empty() && !loss.possible())
      throw usage_error(
          "--plot shows a loss: give windows of text, with --data where --calibration has other examples");
    calibration_.require_memory(*model_.transformer, settings_.calibration,
                                working_bytes(before, settings_.counts, *text));
    warn_of_few_tokens(*text, before);
    if (common_.dry_run) {
      log_info("would take {} out of {} and write '{}'", o_.target_speedup ? speedup_structures() : o_.structure,
               counted(before.layers.size(), "layer"), files_.output);
      return 0;
    }
    loss.begin(*model_.transformer);
    parameters_before_ = size_of(*model_.transformer).parameters;
    if (o_.target_speedup)
      to_speedup(loss);
    else
      prune();
    return end(loss);
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

  // What was measured of a shape (short_generation()) is measured again of the model that was made, and where that is
  // too slow a little more goes.
  void to_speedup(const LossMeasure& loss) {
    SpeedupSettings s;
    s.target = *o_.target_speedup;
    s.multiple = o_.multiple;
    s.shape = short_generation(model_.transformer->config(), settings_.type);
    s.progress = [&](const SpeedupChoice& c) {
      log_info("without {}: prefill {:.2f}, decode {:.2f} times as fast", c.structure, c.speedup.prefill,
               c.speedup.decode);
      considered_.push_back({c});
    };
    for (int more = 0;; ++more) {
      SpeedupChoice choice = structure_for_speedup(*model_.transformer, s, more);
      text_of_structure_ = choice.structure;
      settings_.counts = choice.counts;
      prune();
      const Model before = load_model(files_.model);
      choice.speedup = measure_speedup(*before.transformer, *result_.model, s.shape);
      considered_.push_back({choice, true});
      if (loss.possible()) considered_.back().loss = loss.distance(*result_.model).loss;
      if (choice.speedup.least() >= s.target) {
        considered_.back().chosen = true;
        speedup_ = choice.speedup;
        return;
      }
      if (more == 3)
        throw Error(
            ErrorKind::requirement,
            fmt::format("--target-speedup {}: without {} prefill is {:.2f} and decode {:.2f} times as fast, and "
                        "measurements on this machine vary; try again when it is idle",
                        s.target, choice.structure, choice.speedup.prefill, choice.speedup.decode));
      model_ = load_model(files_.model);
    }
  }

  // Loss over speed-up: every shape that was considered becomes a model for it, whose loss its row then has.
  Plot picture(const LossMeasure& loss) {
    StructuredModel chosen = std::move(result_);
    const StructureCounts counts = settings_.counts;
    std::map<std::string, double> losses;
    for (const Considered& c : considered_)
      if (c.loss) losses[c.choice.structure] = *c.loss;
    Series all{.name = "considered (measured)"}, mine{.name = "this model (measured)"};
    std::vector<std::pair<double, double>> points = {{1, loss.before().loss}};
    for (Considered& c : considered_) {
      if (!losses.contains(c.choice.structure)) {
        model_ = load_model(files_.model);
        settings_.counts = c.choice.counts;
        prune();
        losses[c.choice.structure] = loss.distance(*result_.model).loss;
      }
      c.loss = losses[c.choice.structure];
      points.emplace_back(c.choice.speedup.least(), *c.loss);
      if (!c.chosen) continue;
      mine.x.push_back(points.back().first);
      mine.y.push_back(points.back().second);
    }
    std::sort(points.begin(), points.end());
    for (const auto& [x, y] : points) {
      all.x.push_back(x);
      all.y.push_back(y);
    }
    settings_.counts = counts;
    result_ = std::move(chosen);
    return {.title = "Loss over speed-up",
            .x = {.label = "times as fast, of prefill and decode the lesser"},
            .y = {.label = "loss (nats/token)"},
            .series = {all, mine}};
  }

  Report report() const {
    Report report;
    if (speedup_) add_considered(report, considered_, parameters_before_);
    add_layers(report, result_.layers, speedup_.has_value());
    return report;
  }

  int end(const LossMeasure& loss) {
    std::string svg;
    if (!o_.plot.empty()) svg = render_svg(picture(loss));
    model_.transformer = std::move(result_.model);
    Report layers;
    add_layers(layers, result_.layers, false);
    files_.show(layers);
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
    // Of this machine: not in the file, which is the same everywhere.
    stage.measured = [&] {
      nlohmann::json all = speedup_ ? speeds(*speedup_) : speeds(measure_, files_, *model_.transformer, settings_.type);
      all.update(loss.of(*model_.transformer));
      return all;
    };
    return finish(model_, stage, report(), size, files_, common_, {"--plot", o_.plot, svg});
  }

  const StructureOptions& o_;
  const CalibrationOptions& calibration_;
  const MeasureOptions& measure_;
  const ModelFiles& files_;
  const Common& common_;
  Model model_;
  StructureSettings settings_;
  std::string text_of_structure_;
  int64_t dim_before_ = 0;
  StructuredModel result_;
  std::vector<Considered> considered_;
  std::optional<Speedup> speedup_;
  int64_t parameters_before_ = 0;
};

}  // namespace

int prune_structures(const StructureOptions& o, const CalibrationOptions& calibration, const MeasureOptions& measure,
                     const ModelFiles& files, const Common& common) {
  check(o, calibration);
  if (!o.target_speedup) for_option("--structure", [&] { parse_structure(o.structure); });  // before files are read
  calibration.check();
  files.check(calibration.files, common);
  measure.check(files, common);
  if (!o.plot.empty()) require_text_writable(o.plot, files.force);
  std::vector<NamedPath> inputs = named("--calibration", calibration.files);
  for (const NamedPath& text : named("--data", measure.data)) inputs.push_back(text);
  inputs.insert(inputs.end(), {{"MODEL", files.model}, {"--config", common.config}});
  require_distinct({{"--plot", o.plot}, {"--output", files.output}, {"--report", files.report}}, inputs);
  return StructureRun(o, calibration, measure, files, common).run();
}

}  // namespace hone::cli
