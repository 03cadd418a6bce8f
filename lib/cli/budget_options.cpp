#include "cli/budget_options.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "base/text_output.h"
#include "base/units.h"
#include "cli/effects.h"
#include "compress/budget.h"
#include "compress/reference.h"
#include "io/lineage.h"
#include "report/late_texts.h"
#include "report/plot.h"

namespace hone::cli {

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
}

bool BudgetOptions::given() const {
  if (!max_bytes_text.empty() || target_bits) return true;
  for (const char* option : {"--min-accuracy", "--plot"})
    if (cli::given(*app, option))
      throw usage_error("{} has no effect without a budget: --max-bytes or --target-bits", option);
  return false;
}

std::vector<std::string> type_options() {
  return {"--type", "--embedding-type", "--override"};
}

namespace {

// What the file of a model has beside the arrays of those weights, found by writing one.
class FileSizes {
 public:
  FileSizes(const Model& model, const Common& common, std::string output)
      : model_(model), common_(common), path_(std::move(output) + fmt::format(".measured-{}", getpid())) {}
  ~FileSizes() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  FileSizes(const FileSizes&) = delete;
  FileSizes& operator=(const FileSizes&) = delete;

  int64_t of(const nlohmann::json& results) const {
    ModelFile file = file_of(model_);
    file.lineage.push_back(lineage_entry("quantize", common_.arguments, std::string(64, '0'), common_.seed, results));
    return write_model_file(path_, file, true, IfTaken::refuse).bytes;
  }

 private:
  const Model& model_;
  const Common& common_;
  std::string path_;
};

class BudgetRun {
 public:
  BudgetRun(const BudgetParts& parts, const BudgetOptions& o, const Common& common)
      : o_(o),
        calibration_(parts.calibration),
        distill_(parts.distill),
        activations_(parts.activations),
        measure_(parts.measure),
        files_(parts.files),
        common_(common),
        model_(load_model(files_.model)) {}

  int run(QuantizeSettings quantize, bool group_given) {
    require_finite(model_);
    measure_.check_model(model_);
    const std::optional<CalibrationText> text = calibration_.read(model_);
    const std::optional<CalibrationText> judge = judge_text();
    BudgetSettings settings;
    settings.quantize = std::move(quantize);
    settings.quantize.calibration = &*text;
    if (group_given) settings.groups = {settings.quantize.group};
    settings.text = judge ? &*judge : &*text;
    const std::vector<std::string> chosen = weights_to_quantize(*model_.transformer, settings.quantize);
    const double elements = bytes_of_weights(*model_.transformer, chosen, 1);
    // Of each weight one rounding in f32 is kept until its divergence is measured.
    calibration_.require_memory(*model_.transformer, settings.quantize.calibration, 4 * elements);
    require_room_for_loss(*settings.text, loss_option(), model_);
    activations_.check_text(*settings.text, model_);
    settings.bits = o_.target_bits ? *o_.target_bits : 8 * static_cast<double>(*o_.max_bytes) / elements;
    if (common_.dry_run) {
      log_info("would search the types of {} and write '{}'", counted(chosen.size(), "weight"), files_.output);
      return 0;
    }
    Progress progress;
    settings.progress = [&](const std::string& what, int64_t done, int64_t all) {
      progress.show(fmt::format("{} {} of {}", what, done, all));
    };
    const Reference reference(*model_.transformer, *settings.text, DType::f32);
    before_ = reference.own();
    prepare(settings);
    // Scales by search for what is only compared: a better method takes as long for each type as for the one chosen.
    BudgetSettings compared = settings;
    compared.quantize.method = &round_method("search");
    layers_ = measure_types(*model_.transformer, compared);
    if (distill_.steps > 0) distilled_ = longest_distilled(distill_);  // room in the file
    if (activations_.asked()) of_activations_ = longest_activation_results(activations_);
    search(settings.quantize, elements);
    std::optional<Series> uniform;
    if (!o_.plot.empty()) uniform = uniform_losses(settings.quantize, reference);
    distill();
    choose_activations(*settings.text);
    after_ = reference.distance(*model_.transformer);
    return end(settings, uniform, elements);
  }

 private:
  const char* loss_option() const { return measure_.data.empty() ? "--calibration" : "--data"; }

  std::optional<CalibrationText> judge_text() const {
    // The same files have the same windows, and standard input is there once.
    if (measure_.data.empty() || measure_.data == calibration_.files) return std::nullopt;
    CalibrationOptions judge = calibration_;
    judge.files = measure_.data;
    return judge.read(model_);
  }

  // Before the search, so that it sees what rounding then costs: by the type of each weight that is nearest to the
  // budget.
  void prepare(BudgetSettings& settings) {
    const std::vector<LayerType> types = typical_types(*model_.transformer, settings);
    for (const Preparation* row : std::exchange(settings.quantize.prepare, {}))
      for (const auto& [layer, number] : row->run({*model_.transformer, types, settings.quantize.method->searches,
                                                   *settings.quantize.calibration, settings.quantize.activations}))
        prepared_[layer][std::string(row->number)] = number;
  }

  // Behind the search: types stay, and so do bytes.
  void distill() {
    if (distill_.steps == 0) return;
    distilled_ = nullptr;
    for (size_t i = 0; i < chosen_.size(); ++i)
      if (kernels::info_of(layers_[i].candidates[chosen_[i]].element).scaled) {
        distilled_ = distill_scales(distill_, calibration_, files_.model, model_, common_);
        return;
      }
    log_warning("--distill has no effect: the budget leaves every weight in a type without scales");
  }

  // Behind that, so that the loss is that of the model as it will be.
  void choose_activations(const CalibrationText& text) {
    if (!activations_.asked()) return;
    chosen_activations_ = cli::choose_activations(activations_, text, *model_.transformer, names_of_quantized());
    of_activations_ = activation_results(activations_, chosen_activations_);
    if (!chosen_activations_) log_warning("--activations int8 has no effect: the budget leaves no weight in integers");
  }

  std::vector<std::string> names_of_quantized() const {
    std::vector<std::string> names;
    for (const QuantizedLayer& layer : quantized_) names.push_back(layer.name);
    return names;
  }

  Bytes measure() const { return o_.target_bits ? &TypeCandidate::stored_bytes : &TypeCandidate::file_bytes; }

  void quantize(QuantizeSettings settings, const std::vector<size_t>& chosen) {
    for (const WeightSlot& slot : weight_slots(*model_.transformer)) {
      const auto found = dense_.find(slot.name);
      if (found != dense_.end()) *slot.weight = found->second;
    }
    settings.layer_types = types_of(layers_, chosen);
    quantized_ = quantize_model(*model_.transformer, settings);
    if (!activations_.asked()) return;
    // So that the file has the attributes that it will have.
    Transformer& model = *model_.transformer;
    for (const WeightSlot& slot : weight_slots(model, activation_layers(model, names_of_quantized())))
      *slot.weight = with_activation_bits(**slot.weight, 16);
  }

  // The best choice whose file, or whose weights, are within the budget, in the model.
  void search(const QuantizeSettings& settings, double elements) {
    for (const WeightSlot& slot : weight_slots(*model_.transformer)) dense_[slot.name] = *slot.weight;
    if (o_.target_bits) {
      const auto budget = static_cast<int64_t>(*o_.target_bits * elements / 8);
      require_possible(budget, 0, elements);
      chosen_ = best_types(layers_, budget, measure());
      quantize(settings, chosen_);
      return;
    }
    // What a file has beside the weights is nearly the same for all types: measured of the smallest, then of what the
    // search finds with that.
    const FileSizes sizes(model_, common_, files_.output);
    chosen_ = best_types(layers_, least_bytes(layers_, measure()), measure());
    quantize(settings, chosen_);
    int64_t beside = sizes.of(results()) - bytes_of(layers_, chosen_, measure());
    require_possible(*o_.max_bytes, beside, elements);
    for (int attempt = 0; attempt < 5; ++attempt) {
      chosen_ = best_types(layers_, *o_.max_bytes - beside, measure());
      if (chosen_.empty()) break;
      quantize(settings, chosen_);
      const int64_t bytes = sizes.of(results());
      if (bytes <= *o_.max_bytes) return;
      beside = bytes - bytes_of(layers_, chosen_, measure());
    }
    throw usage_error("--max-bytes {}: no choice of types fits the file's size; give a little more", o_.max_bytes_text);
  }

  void require_possible(int64_t budget, int64_t beside, double elements) const {
    const int64_t least = least_bytes(layers_, measure());
    if (least + beside <= budget) return;
    if (o_.target_bits)
      throw usage_error("--target-bits {} is below the least that the types reach here: {:.4g} bits a weight",
                        *o_.target_bits, 8 * static_cast<double>(least) / elements);
    throw usage_error(
        "--max-bytes {} is below the least possible: {} bytes ({}), with every weight in its smallest type",
        o_.max_bytes_text, least + beside, format_bytes(static_cast<double>(least + beside)));
  }

  nlohmann::json results() const {
    std::map<std::string, int64_t> of_type;
    for (size_t i = 0; i < chosen_.size(); ++i) ++of_type[type_name(layers_[i].candidates[chosen_[i]])];
    nlohmann::json results = {
        {"weights_by_type", of_type}, {"quantized_weights", layers_.size()}, {"expected_kl", kl_of(layers_, chosen_)}};
    if (!distilled_.is_null()) results["distilled"] = distilled_;
    if (!of_activations_.is_null()) results["activations"] = of_activations_;
    return results;
  }

  static std::string type_name(const TypeCandidate& c) {
    const std::string name(kernels::info_of(c.element).name);
    return c.group > 0 ? fmt::format("{}:{}", name, c.group) : name;
  }

  // Everything that was considered.
  Report considered() const {
    Report report;
    for (size_t i = 0; i < layers_.size(); ++i)
      for (size_t k = 0; k < layers_[i].candidates.size(); ++k) {
        const TypeCandidate& c = layers_[i].candidates[k];
        Row row;
        row.set("parameter", layers_[i].name);
        row.set("type", kernels::info_of(c.element).name);
        row.set("group", c.group);
        row.set("bytes", c.file_bytes);
        row.set("bits", 8 * static_cast<double>(c.stored_bytes) / static_cast<double>(layers_[i].elements));
        row.set("relative_error", c.relative_error);
        row.set("divergence", c.kl);
        row.set("measured", k == layers_[i].measured && layers_[i].measured_kl > 0 ? "measured" : "expected");
        row.set("chosen", k == chosen_[i] ? "chosen" : "");
        set_coverage(row, layers_[i].calibration_tokens, layers_[i].data_free);
        if (k == chosen_[i]) set_activations(row, chosen_activations_, layers_[i].name);
        if (const auto found = prepared_.find(layers_[i].name); found != prepared_.end())
          for (const auto& [name, number] : found->second) row.set(name, number);
        report.add(row);
      }
    std::vector<std::string> columns = {"parameter",      "type",       "group",    "bytes",  "bits",
                                        "relative_error", "divergence", "measured", "chosen", "calibration_tokens",
                                        "calibration"};
    for (const std::string& name : activation_columns()) columns.push_back(name);
    for (const Preparation& row : preparations()) columns.emplace_back(row.number);
    report.fix_csv(columns);
    return report;
  }

  Report of_chosen() const {
    Report report;
    for (size_t i = 0; i < layers_.size(); ++i) {
      const TypeCandidate& c = layers_[i].candidates[chosen_[i]];
      Row row;
      row.set("parameter", layers_[i].name);
      row.set("type", type_name(c));
      row.set("bits", 8 * static_cast<double>(c.stored_bytes) / static_cast<double>(layers_[i].elements));
      row.set("relative_error", c.relative_error);
      row.set("divergence", c.kl);
      set_activations(row, chosen_activations_, layers_[i].name);
      report.add(row);
    }
    return report;
  }

  // Loss over bytes of weights where all have one type, each measured. The model is what was chosen, again.
  Series uniform_losses(const QuantizeSettings& settings, const Reference& reference) {
    Series uniform{.name = "one type for all (measured)"};
    std::vector<std::pair<double, double>> points;
    for (const kernels::PackedElement element : kernels::all_elements) {
      const std::vector<size_t> all = uniform_types(layers_, element, 32);
      quantize(settings, all);
      points.emplace_back(static_cast<double>(bytes_of(layers_, all, &TypeCandidate::file_bytes)),
                          reference.distance(*model_.transformer).loss);
    }
    quantize(settings, chosen_);
    std::sort(points.begin(), points.end());
    for (const auto& [x, y] : points) {
      uniform.x.push_back(x);
      uniform.y.push_back(y);
    }
    return uniform;
  }

  // Those beside what the search expects and what it got.
  Plot picture(const Series& uniform) const {
    Series expected{.name = "search (expected)", .dashed = true}, result{.name = "this model (measured)"};
    const double least = static_cast<double>(least_bytes(layers_, &TypeCandidate::file_bytes));
    for (int i = 0; i <= 24; ++i) {
      const double bytes = least + (uniform.x.back() - least) * i / 24;
      const std::vector<size_t> best = best_types(layers_, static_cast<int64_t>(bytes), &TypeCandidate::file_bytes);
      expected.x.push_back(bytes);
      expected.y.push_back(before_.loss + kl_of(layers_, best));
    }
    result.x.push_back(static_cast<double>(bytes_of(layers_, chosen_, &TypeCandidate::file_bytes)));
    result.y.push_back(after_.loss);
    return {.title = "Loss over bytes of weights",
            .x = {.label = "bytes"},
            .y = {.label = "loss (nats/token)"},
            .series = {uniform, expected, result}};
  }

  int end(const BudgetSettings& settings, const std::optional<Series>& uniform, double elements) {
    const double bits = 8 * static_cast<double>(bytes_of(layers_, chosen_, &TypeCandidate::stored_bytes)) / elements;
    if (o_.min_accuracy && after_.accuracy < *o_.min_accuracy)
      throw Error(
          ErrorKind::requirement,
          fmt::format("--min-accuracy {}: the nearest that the budget allows has {:.4f}, at {:.3f} bits a weight; "
                      "the model before has {:.4f}",
                      *o_.min_accuracy, after_.accuracy, bits, before_.accuracy));
    std::string svg;
    if (uniform) svg = render_svg(picture(*uniform));
    if (files_.report.empty()) log_line(LogLevel::info, render(of_chosen(), Format::table));
    warn_of_coverage(quantized_);
    const ModelSize size = size_of(*model_.transformer);
    const std::vector<std::string>& texts = measure_.data.empty() ? calibration_.files : measure_.data;
    Stage stage = {
        "quantize",
        sha256_of_file(files_.model),
        results(),
        {{"weight_bytes", size.weight_bytes}, {"bits_per_weight", bits}, {"expected_kl", kl_of(layers_, chosen_)}}};
    stage.printed.update(
        losses(before_, after_,
               loss_text(loss_option(), texts, texts == calibration_.files ? "calibrated on" : "spread over it",
                         *settings.text)));
    if (!distilled_.is_null()) stage.printed["distilled"] = distilled_;
    if (!of_activations_.is_null()) stage.printed["activations"] = of_activations_;
    stage.measured = [&] { return speeds(measure_, files_, *model_.transformer, settings.quantize.activations); };
    return finish(model_, stage, considered(), size, files_, common_, {"--plot", o_.plot, svg});
  }

  const BudgetOptions& o_;
  const CalibrationOptions& calibration_;
  const DistillOptions& distill_;
  const ActivationOptions& activations_;
  const MeasureOptions& measure_;
  const ModelFiles& files_;
  const Common& common_;
  Model model_;
  Distance before_, after_;
  std::vector<BudgetLayer> layers_;
  std::vector<size_t> chosen_;
  std::vector<QuantizedLayer> quantized_;
  std::map<std::string, std::shared_ptr<Weight>> dense_;           // as they were, but for what prepared them
  std::map<std::string, std::map<std::string, double>> prepared_;  // of a weight: the number of each preparation
  nlohmann::json distilled_, of_activations_;                      // or null
  std::optional<ActivationChoice> chosen_activations_;
};

}  // namespace

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
  calibration.check();
  files.check(calibration.files, common);
  if (!o.plot.empty()) require_text_writable(o.plot, files.force);
  measure.check(files, common);
  std::vector<NamedPath> inputs = named("--data", measure.data);
  inputs.insert(inputs.end(), {{"MODEL", files.model}, {"--config", common.config}});
  require_distinct({{"--plot", o.plot}, {"--output", files.output}, {"--report", files.report}}, inputs);
  return BudgetRun(parts, options, common).run(std::move(settings), group_given);
}

}  // namespace hone::cli
