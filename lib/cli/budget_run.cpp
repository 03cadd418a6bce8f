#include "cli/budget_run.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "base/units.h"
#include "cli/budget_report.h"
#include "compress/reference.h"
#include "io/lineage.h"

namespace hone::cli {
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

  int run(BudgetSettings settings) {
    require_finite(model_);
    measure_.check_model(model_);
    const std::optional<CalibrationText> text = calibration_.read(model_);
    const std::optional<CalibrationText> judge = judge_text();
    settings.quantize.calibration = &*text;
    settings.text = judge ? &*judge : &*text;
    const std::vector<std::string> chosen = weights_to_quantize(*model_.transformer, settings.quantize);
    const double elements = bytes_of_weights(*model_.transformer, chosen, 1);
    // Of each weight one rounding in f32 is kept until its divergence is measured.
    // What was chosen and the best types alone take no more, later. The predictions of the model before stay beside.
    const double before = Reference::bytes(*model_.transformer, *settings.text);
    calibration_.require_memory(*model_.transformer, settings.quantize.calibration, 4 * elements + before);
    require_room_for_loss(*settings.text, loss_option(), model_);
    activations_.check_text(*settings.text, model_);
    settings.bits = o_.target_bits ? *o_.target_bits : 8 * static_cast<double>(*o_.max_bytes) / elements;
    if (common_.dry_run) {
      log_info("would search the types{} of {} and write '{}'", settings.sparsities.empty() ? "" : " and sparsities",
               counted(chosen.size(), "weight"), files_.output);
      return 0;
    }
    Progress progress;
    settings.progress = [&](const std::string& what, int64_t done, int64_t all) {
      progress.show(fmt::format("{} {} of {}", what, done, all));
    };
    const Reference reference(*model_.transformer, *settings.text, DType::f32);
    before_ = reference.own();
    prepare(settings);
    // Scales by search for types that are only compared: a better method takes as long for each as for the one chosen.
    // What pruning costs is the same by all methods, so that beside it rounding has to be measured as it will be done.
    BudgetSettings compared = settings;
    if (settings.sparsities.empty()) compared.quantize.method = &round_method("search");
    layers_ = measure_types(*model_.transformer, compared);
    if (distill_.steps > 0) distilled_ = longest_distilled(distill_);  // room in the file
    if (activations_.asked()) of_activations_ = longest_activation_results(activations_);
    search(settings.quantize, reference, elements);
    std::vector<Series> alike;
    if (!o_.plot.empty()) alike = losses_alike(settings, reference);
    distill();
    choose_activations(*settings.text);
    after_ = reference.distance(*model_.transformer);
    return end(settings, std::move(alike), elements);
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
  void search(const QuantizeSettings& settings, const Reference& reference, double elements) {
    for (const WeightSlot& slot : weight_slots(*model_.transformer)) dense_[slot.name] = *slot.weight;
    limit_ = o_.target_bits ? static_cast<int64_t>(*o_.target_bits * elements / 8) : *o_.max_bytes;
    int64_t beside = 0;
    if (!o_.target_bits) {
      // What a file has beside the weights is nearly the same for all types: measured of the smallest, then of what the
      // search finds with that.
      chosen_ = best_types(layers_, least_bytes(layers_, measure()), measure());
      quantize(settings, chosen_);
      beside = bytes_made() - bytes_of(layers_, chosen_, measure());
    }
    require_possible(beside, elements);
    if (!fit(settings, beside, [&](int64_t budget) { return best_types(layers_, budget, measure()); }))
      throw usage_error("{}: no choice of types fits; give a little more", budget_text());
    if (!o_.sparsities.empty()) compare_with_types_alone(settings, reference, beside);
    count_bytes();
  }

  // Whether a choice of best(bytes) fits, which is then in the model. Masks are found anew behind what has become of
  // other layers, and the last bytes of tiles with them: what is over the limit is taken off the next budget, and more
  // of it each time.
  template <class Best>
  bool fit(const QuantizeSettings& settings, int64_t beside, const Best& best) {
    for (int attempt = 0; attempt < 5; ++attempt) {
      chosen_ = best(limit_ - beside);
      if (chosen_.empty()) return false;
      quantize(settings, chosen_);
      const int64_t bytes = bytes_made();
      if (bytes <= limit_) return true;
      beside = bytes - bytes_of(layers_, chosen_, measure()) + attempt * (bytes - limit_);
    }
    return false;
  }

  // Of the file of the model as it is, or of its weights: what the budget is of.
  int64_t bytes_made() const {
    if (!o_.target_bits) return FileSizes(model_, common_, files_.output).of(results());
    int64_t bytes = 0;
    for (const QuantizedLayer& layer : quantized_) bytes += layer.bytes;
    return bytes;
  }

  // That errors add up holds the less the more is pruned: the best of types alone is made, too, where it fits, and what
  // diverges less stays.
  void compare_with_types_alone(const QuantizeSettings& settings, const Reference& reference, int64_t beside) {
    const TypesAlone alone = types_alone(layers_);
    if (std::ranges::none_of(types_of(layers_, chosen_), [](const LayerType& type) { return type.sparsity > 0; }))
      return;
    const std::vector<size_t> chosen = chosen_;
    const std::vector<QuantizedLayer> quantized = quantized_;
    std::vector<std::shared_ptr<Weight>> weights;
    for (const WeightSlot& slot : weight_slots(*model_.transformer)) weights.push_back(*slot.weight);
    const double kl = reference.distance(*model_.transformer).kl;
    const auto best = [&](int64_t budget) { return alone.among_all(best_types(alone.layers, budget, measure())); };
    if (fit(settings, beside, best)) {
      kl_types_ = reference.distance(*model_.transformer).kl;
      if (*kl_types_ <= kl) return;
    }
    chosen_ = chosen;
    quantized_ = quantized;
    size_t i = 0;
    for (const WeightSlot& slot : weight_slots(*model_.transformer)) *slot.weight = weights[i++];
  }

  // What was chosen has the bytes that it has in the model.
  void count_bytes() {
    std::map<std::string, const Weight*> weights;
    for (const WeightSlot& slot : weight_slots(*model_.transformer)) weights[slot.name] = slot.weight->get();
    for (size_t i = 0; i < layers_.size(); ++i) {
      TypeCandidate& candidate = layers_[i].candidates[chosen_[i]];
      const Weight& weight = *weights.at(layers_[i].name);
      candidate.file_bytes = array_bytes(weight);
      candidate.stored_bytes = weight.stored_bytes();
    }
  }

  std::string budget_text() const {
    return o_.target_bits ? fmt::format("--target-bits {}", *o_.target_bits)
                          : fmt::format("--max-bytes {}", o_.max_bytes_text);
  }

  void require_possible(int64_t beside, double elements) const {
    const int64_t least = least_bytes(layers_, measure()) + beside;
    if (least <= limit_) return;
    if (o_.target_bits)
      throw usage_error("{} is below the least that the types reach here: {:.4g} bits a weight", budget_text(),
                        8 * static_cast<double>(least) / elements);
    throw usage_error("{} is below the least possible: {} bytes ({}), with every weight in its smallest type",
                      budget_text(), least, format_bytes(static_cast<double>(least)));
  }

  nlohmann::json results() const {
    std::map<std::string, int64_t> of_type;
    for (size_t i = 0; i < chosen_.size(); ++i) ++of_type[type_name(layers_[i].candidates[chosen_[i]])];
    nlohmann::json results = {
        {"weights_by_type", of_type}, {"quantized_weights", layers_.size()}, {"expected_kl", kl_of(layers_, chosen_)}};
    if (!o_.sparsities.empty()) {
      nlohmann::json& sparsities = results["layer_sparsity"] = nlohmann::json::object();
      for (const QuantizedLayer& layer : quantized_) sparsities[layer.name] = layer.sparsity;
    }
    if (!distilled_.is_null()) results["distilled"] = distilled_;
    if (!of_activations_.is_null()) results["activations"] = of_activations_;
    return results;
  }

  // Loss over bytes of weights where all have one type, at each sparsity, each measured. The model is what was chosen,
  // again.
  std::vector<Series> losses_alike(const BudgetSettings& s, const Reference& reference) {
    std::vector<Series> all;
    std::set<std::vector<size_t>> done;  // where nothing is to be gained by more zeros, the same comes again
    for (const double sparsity : s.sparsities.empty() ? std::vector<double>{0} : s.sparsities) {
      std::vector<std::pair<double, double>> points;
      for (const kernels::PackedElement element : s.elements) {
        const std::vector<size_t> alike = uniform_types(layers_, element, 32, sparsity);
        if (!done.insert(alike).second) continue;
        quantize(s.quantize, alike);
        points.emplace_back(static_cast<double>(bytes_of(layers_, alike, &TypeCandidate::file_bytes)),
                            reference.distance(*model_.transformer).loss);
      }
      if (points.empty()) continue;
      std::sort(points.begin(), points.end());
      const std::string zeros = sparsity > 0 ? fmt::format(", {:.4g}% sparse", 100 * sparsity) : "";
      Series& series = all.emplace_back(Series{.name = fmt::format("one type for all{} (measured)", zeros)});
      for (const auto& [x, y] : points) {
        series.x.push_back(x);
        series.y.push_back(y);
      }
    }
    quantize(s.quantize, chosen_);
    return all;
  }

  int end(const BudgetSettings& settings, std::vector<Series> alike, double elements) {
    const double bits = 8 * static_cast<double>(bytes_of(layers_, chosen_, &TypeCandidate::stored_bytes)) / elements;
    if (o_.min_accuracy && after_.accuracy < *o_.min_accuracy)
      throw Error(
          ErrorKind::requirement,
          fmt::format("--min-accuracy {}: the nearest that the budget allows has {:.4f}, at {:.3f} bits a weight; "
                      "the model before has {:.4f}",
                      *o_.min_accuracy, after_.accuracy, bits, before_.accuracy));
    std::string svg;
    if (!o_.plot.empty()) svg = render_svg(budget_plot(layers_, chosen_, std::move(alike), before_.loss, after_.loss));
    if (files_.report.empty())
      log_line(LogLevel::info, render(chosen_types(layers_, chosen_, chosen_activations_), Format::table));
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
    for (const char* name : {"layer_sparsity", "distilled", "activations"})
      if (stage.results.contains(name)) stage.printed[name] = stage.results[name];
    if (kl_types_) stage.printed["kl_types"] = *kl_types_;
    stage.measured = [&] { return speeds(measure_, files_, *model_.transformer, settings.quantize.activations); };
    return finish(model_, stage, considered_types(layers_, chosen_, prepared_, chosen_activations_), size, files_,
                  common_, {"--plot", o_.plot, svg});
  }

  const BudgetOptions& o_;
  const CalibrationOptions& calibration_;
  const DistillOptions& distill_;
  const ActivationOptions& activations_;
  const MeasureOptions& measure_;
  const ModelFiles& files_;
  const Common& common_;
  Model model_;
  int64_t limit_ = 0;  // bytes of the file, or of the weights
  Distance before_, after_;
  std::optional<double> kl_types_;  // of the best types alone, where something is pruned and they fit
  std::vector<BudgetLayer> layers_;
  std::vector<size_t> chosen_;
  std::vector<QuantizedLayer> quantized_;
  std::map<std::string, std::shared_ptr<Weight>> dense_;           // as they were, but for what prepared them
  std::map<std::string, std::map<std::string, double>> prepared_;  // of a weight: the number of each preparation
  nlohmann::json distilled_, of_activations_;                      // or null
  std::optional<ActivationChoice> chosen_activations_;
};

}  // namespace

int run_to_budget(const BudgetParts& parts, const BudgetOptions& options, BudgetSettings settings,
                  const Common& common) {
  return BudgetRun(parts, options, common).run(std::move(settings));
}

}  // namespace hone::cli
