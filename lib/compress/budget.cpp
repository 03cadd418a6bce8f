#include "compress/budget.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "base/error.h"
#include "base/stop.h"
#include "compress/curvature.h"
#include "compress/reference.h"
#include "weights/dense_weight.h"
#include "weights/packed_weight.h"

namespace hone {
namespace {

class TypeMeasurer {
 public:
  TypeMeasurer(Transformer& model, const BudgetSettings& s) : model_(model), s_(s) {
    for (const WeightSlot& slot : weight_slots(model)) slots_[slot.name] = slot.weight;
  }

  std::vector<BudgetLayer> run() {
    const std::vector<std::string> names = weights_to_quantize(model_, s_.quantize);
    layers_.resize(names.size());
    roundings_.resize(names.size());
    const auto scaled = std::ranges::find_if(s_.elements, [](auto e) { return kernels::info_of(e).scaled; });
    const kernels::PackedElement typical = scaled == s_.elements.end() ? s_.elements.front() : *scaled;
    std::vector<CalibrationTarget> targets;
    for (const std::string& name : names)
      targets.push_back(rounding_target(name, typical, !s_.sparsities.empty(), s_.quantize));
    int64_t done = 0;
    // Nothing changes on the way: every candidate is measured behind the same model.
    calibrate(model_, targets, MeasuredBehind::blocks, s_.quantize.calibration, s_.quantize.activations,
              [&](size_t i, const Measurement& measured) {
                layers_[i] = candidates(names[i], measured, roundings_[i]);
                tell("types of weight", ++done, static_cast<int64_t>(names.size()));
              });
    divergences();
    return std::move(layers_);
  }

 private:
  void tell(const char* what, int64_t done, int64_t all) const {
    if (s_.progress) s_.progress(what, done, all);
  }

  BudgetLayer candidates(const std::string& name, const Measurement& measured, Tensor& rounding) const {
    const std::shared_ptr<Weight>& weight = *slots_.at(name);
    BudgetLayer layer;
    layer.name = name;
    layer.elements = weight->rows() * weight->cols();
    if (const Bitmask mask = weight->mask()) layer.sparsity = mask.sparsity();
    layer.calibration_tokens = measured.tokens;
    layer.data_free = measured.data_free;
    const Tensor dense = weight->to_dense();
    std::optional<Curvature> curvature;
    if (!s_.sparsities.empty()) curvature = curvature_of(measured.inputs, dense.dim(1), name);
    double nearest = std::numeric_limits<double>::infinity();
    for (const double sparsity : sparsities_of(name, *weight)) {
      const std::shared_ptr<Weight> pruned =
          pruned_weight({name, s_.elements.front(), 0, sparsity}, weight, s_.quantize, measured);
      const Tensor values = pruned->to_dense();
      const Bitmask mask = pruned->mask();
      const double kept = mask ? static_cast<double>(mask.count()) / static_cast<double>(layer.elements) : 1;
      const bool first = layer.candidates.empty();
      for (const LayerType& type : types(name, sparsity)) {
        if (!first && !bitmask_is_smaller(type.element, kept)) continue;
        check_stop();
        const PackedRounding rounded = rounded_weight(type, values, mask, s_.quantize, measured);
        const Weight& packed = *rounded.weight;
        const double error =
            curvature ? output_error(dense, packed.to_dense(), *curvature).relative() : rounded.relative_error;
        if (std::isnan(error)) finite_divergence(error, name);
        layer.candidates.push_back(
            {type.element, type.group, array_bytes(packed), packed.stored_bytes(), error, 0, sparsity});
        const double bits = 8 * static_cast<double>(packed.stored_bytes()) / static_cast<double>(layer.elements);
        // Where nothing is lost, as of a weight that is bf16 already, nothing is to be seen.
        if (!(error > 0) || !(std::fabs(bits - s_.bits) < nearest)) continue;
        nearest = std::fabs(bits - s_.bits);
        layer.measured = layer.candidates.size() - 1;
        rounding = packed.to_dense();
      }
    }
    return layer;
  }

  std::vector<LayerType> types(const std::string& name, double sparsity) const {
    std::vector<LayerType> all;
    for (const kernels::PackedElement element : s_.elements)
      for (const int64_t group : kernels::info_of(element).scaled ? s_.groups : std::vector<int64_t>{0})
        all.push_back({name, element, group, sparsity});
    return all;
  }

  // Ascending; 0 where its mask has as many zeros already.
  std::vector<double> sparsities_of(const std::string& name, const Weight& weight) const {
    std::vector<double> all;
    if (!s_.sparsities.empty() && s_.quantize.prune->rule.chosen(name)) {
      const int64_t elements = weight.rows() * weight.cols(), left_out = weight.pruned();
      for (const double sparsity : s_.sparsities) {
        const int64_t wanted = pruned_of(elements, sparsity);
        if (wanted < elements) all.push_back(wanted > left_out ? sparsity : 0);
      }
    }
    if (all.empty()) return {0};
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
  }

  // What each weight alone does to the predictions, in f32: in bf16 what is measured would drown in the rounding of
  // activations.
  void divergences() {
    const Reference reference(model_, *s_.text, DType::f32, divergence_windows);
    for (size_t i = 0; i < layers_.size(); ++i) {
      BudgetLayer& layer = layers_[i];
      if (!roundings_[i]) continue;
      std::shared_ptr<Weight>& slot = *slots_.at(layer.name);
      const std::shared_ptr<Weight> before = slot;
      slot = std::make_shared<DenseWeight>(roundings_[i], before->mask());
      try {
        layer.measured_kl = finite_divergence(reference.distance(model_).kl, layer.name);
      } catch (...) {
        slot = before;
        throw;
      }
      slot = before;
      roundings_[i] = {};
      const double sensitivity = layer.measured_kl / layer.candidates[layer.measured].relative_error;
      for (TypeCandidate& candidate : layer.candidates) candidate.kl = sensitivity * candidate.relative_error;
      tell("divergence of weight", static_cast<int64_t>(i) + 1, static_cast<int64_t>(layers_.size()));
    }
  }

  Transformer& model_;
  const BudgetSettings& s_;
  std::map<std::string, std::shared_ptr<Weight>*> slots_;
  std::vector<BudgetLayer> layers_;
  std::vector<Tensor> roundings_;  // f32, of the candidate that is measured
};

}  // namespace

std::vector<LayerType> typical_types(const Transformer& model, const BudgetSettings& s) {
  const int64_t group = s.groups.front();
  LayerType nearest = {"", s.elements.front(), 0};
  double distance = std::numeric_limits<double>::infinity();
  for (const kernels::PackedElement element : s.elements) {
    const kernels::ElementInfo& info = kernels::info_of(element);
    const double bits = info.bits + (group > 0 ? 16.0 / static_cast<double>(group) : 0);  // scales are bf16
    if (!info.scaled || std::fabs(bits - s.bits) >= distance) continue;
    distance = std::fabs(bits - s.bits);
    nearest = {"", element, group};
  }
  std::vector<LayerType> types;
  for (const std::string& name : weights_to_quantize(model, s.quantize))
    types.push_back({name, nearest.element, nearest.group});
  return types;
}

std::vector<BudgetLayer> measure_types(Transformer& model, const BudgetSettings& settings) {
  return TypeMeasurer(model, settings).run();
}

std::vector<size_t> best_types(const std::vector<BudgetLayer>& layers, int64_t budget, Bytes bytes) {
  constexpr int64_t steps = 1 << 14;
  constexpr double impossible = std::numeric_limits<double>::infinity();
  const int64_t least = least_bytes(layers, bytes);
  if (least > budget) return {};
  // What is above the least of all is shared out, in steps of `unit` bytes.
  const int64_t spare = budget - least, unit = std::max<int64_t>(1, (spare + steps - 1) / steps);
  const auto room = static_cast<size_t>(spare / unit);
  std::vector<double> best(room + 1, 0);  // the least sum of kl of the layers so far, with at most so many steps
  std::vector<std::vector<uint16_t>> choices;
  for (const BudgetLayer& layer : layers) {
    int64_t fewest = std::numeric_limits<int64_t>::max();
    for (const TypeCandidate& c : layer.candidates) {
      fewest = std::min(fewest, c.*bytes);
      finite_divergence(c.kl, layer.name);
    }
    std::vector<double> next(room + 1, impossible);
    std::vector<uint16_t> choice(room + 1, 0);
    for (size_t k = 0; k < layer.candidates.size(); ++k) {
      const TypeCandidate& c = layer.candidates[k];
      const auto cost = static_cast<size_t>((c.*bytes - fewest + unit - 1) / unit);
      for (size_t r = cost; r <= room; ++r) {
        const double kl = best[r - cost] + c.kl;
        if (kl < next[r]) {
          next[r] = kl;
          choice[r] = static_cast<uint16_t>(k);
        }
      }
    }
    best = std::move(next);
    choices.push_back(std::move(choice));
  }
  std::vector<size_t> chosen(layers.size());
  size_t left = room;
  for (size_t i = layers.size(); i-- > 0;) {
    const BudgetLayer& layer = layers[i];
    chosen[i] = choices[i][left];
    int64_t fewest = std::numeric_limits<int64_t>::max();
    for (const TypeCandidate& c : layer.candidates) fewest = std::min(fewest, c.*bytes);
    left -= static_cast<size_t>((layer.candidates[chosen[i]].*bytes - fewest + unit - 1) / unit);
  }
  return chosen;
}

int64_t bytes_of(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen, Bytes bytes) {
  int64_t sum = 0;
  for (size_t i = 0; i < layers.size(); ++i) sum += layers[i].candidates[chosen[i]].*bytes;
  return sum;
}

double kl_of(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen) {
  double sum = 0;
  for (size_t i = 0; i < layers.size(); ++i) sum += layers[i].candidates[chosen[i]].kl;
  return sum;
}

int64_t least_bytes(const std::vector<BudgetLayer>& layers, Bytes bytes) {
  int64_t sum = 0;
  for (const BudgetLayer& layer : layers) {
    int64_t fewest = std::numeric_limits<int64_t>::max();
    for (const TypeCandidate& c : layer.candidates) fewest = std::min(fewest, c.*bytes);
    sum += fewest;
  }
  return sum;
}

std::vector<LayerType> types_of(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen) {
  std::vector<LayerType> types;
  for (size_t i = 0; i < layers.size(); ++i) {
    const TypeCandidate& c = layers[i].candidates[chosen[i]];
    types.push_back({layers[i].name, c.element, c.group, c.sparsity});
  }
  return types;
}

std::vector<size_t> uniform_types(const std::vector<BudgetLayer>& layers, kernels::PackedElement element, int64_t group,
                                  double sparsity) {
  // What is less is nearer.
  const auto distance = [&](const TypeCandidate& c) {
    const bool above = c.sparsity > sparsity;
    return std::tuple(above, above ? c.sparsity : -c.sparsity, std::abs(c.group - group));
  };
  std::vector<size_t> chosen;
  for (const BudgetLayer& layer : layers) {
    size_t best = layer.candidates.size();
    for (size_t k = 0; k < layer.candidates.size(); ++k) {
      if (layer.candidates[k].element != element) continue;
      if (best == layer.candidates.size() || distance(layer.candidates[k]) < distance(layer.candidates[best])) best = k;
    }
    chosen.push_back(best);
  }
  return chosen;
}

TypesAlone types_alone(const std::vector<BudgetLayer>& layers) {
  TypesAlone alone;
  for (const BudgetLayer& layer : layers) {
    BudgetLayer& some = alone.layers.emplace_back(layer);
    std::vector<size_t>& places = alone.places.emplace_back();
    for (size_t k = 0; k < layer.candidates.size(); ++k)
      if (layer.candidates[k].sparsity == 0) places.push_back(k);
    if (places.empty()) return {};
    some.candidates.clear();
    for (const size_t k : places) some.candidates.push_back(layer.candidates[k]);
  }
  return alone;
}

std::vector<size_t> TypesAlone::among_all(const std::vector<size_t>& chosen) const {
  std::vector<size_t> all;
  for (size_t i = 0; i < chosen.size(); ++i) all.push_back(places[i][chosen[i]]);
  return all;
}

int64_t array_bytes(const Weight& weight) {
  int64_t bytes = 0;
  for (const auto& [name, array] : weight.encode().arrays) bytes += static_cast<int64_t>(array.bytes());
  return bytes;
}

}  // namespace hone
