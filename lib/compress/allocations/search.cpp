// By what pruning a weight does to the predictions, and how much more or less its output suffers at other sparsities:
// the least sum of all (as the types of weights are chosen in budget.h; arXiv 2411.17525), then checked as a whole, as
// evolution does with each of its candidates (EvoPress, arXiv 2410.14649).
#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"
#include "compress/allocation.h"
#include "compress/curvature.h"
#include "compress/reference.h"

namespace hone {
namespace {

constexpr double steps[] = {0.55, 0.75, 1, 1.3, 1.7};  // times the density of all
constexpr double most_dense = 0.98;
constexpr int64_t divergence_tokens = 4096;  // of the text, for each weight

bool fits(const Pattern& pattern, const Weight& weight, double sparsity, const std::string& name) {
  try {
    pattern.check_shape(weight.rows(), weight.cols(), sparsity, name);
    return true;
  } catch (const Error&) {  // nothing of it would be left
    return false;
  }
}

std::vector<std::shared_ptr<Weight>*> slots_of(Transformer& model, const std::vector<std::string>& names) {
  std::vector<std::shared_ptr<Weight>*> slots;
  for (const WeightSlot& slot : weight_slots(model, names)) slots.push_back(slot.weight);
  return slots;
}

class Search {
 public:
  Search(Transformer& model, const PruneSettings& s)
      : model_(model),
        s_(s),
        names_(weights_to_prune(model, s)),
        slots_(slots_of(model, names_)),
        curves_(names_.size()),
        // In f32: in bf16 what one weight does would drown in the rounding of activations.
        reference_(model, *s.calibration, DType::f32, std::max<int64_t>(1, divergence_tokens / s.calibration->length)) {
  }

  Allotted run() {
    std::vector<CalibrationTarget> targets;
    std::vector<StatisticKind> needs = s_.method->needs;
    if (std::find(needs.begin(), needs.end(), StatisticKind::of<GramMatrix>()) == needs.end())
      needs.push_back(StatisticKind::of<GramMatrix>());
    for (const std::string& name : names_) targets.push_back({name, needs, true});
    calibrate(
        model_, targets, MeasuredBehind::blocks, s_.calibration, s_.type,
        [&](size_t i, const Measurement& measured) { curves_[i] = curve(i, measured); }, s_.progress);
    const std::vector<double> densities = best_densities(curves_, 1 - s_.sparsity);
    Allotted found, alike = uniform_allocation().run(model_, s_);
    for (size_t i = 0; i < names_.size(); ++i) found.sparsities.push_back({names_[i], 1 - densities[i]});
    // That errors add up is an assumption: both are pruned and measured, and the better one is taken.
    const double kl = divergence_of(found.sparsities), kl_uniform = divergence_of(alike.sparsities);
    Allotted& better = kl < kl_uniform ? found : alike;
    better.kl = std::min(kl, kl_uniform);
    better.kl_uniform = kl_uniform;
    return std::move(better);
  }

 private:
  // Its output's error at each density, in units of divergence: what the predictions do at the density of all says what
  // an error in this weight's output means. Of a weight that no token entered nothing is known: it stays as all.
  ErrorCurve curve(size_t which, const Measurement& measured) {
    const std::string& name = names_[which];
    std::shared_ptr<Weight>& slot = *slots_[which];
    const Restore restore({&slot});
    const Tensor dense = slot->to_dense();
    ErrorCurve curve{static_cast<double>(dense.size()), {}, {}};
    const double density_of_all = 1 - s_.sparsity;
    if (!measured.inputs) return {curve.elements, {density_of_all}, {1}};
    const Curvature curvature = curvature_of(measured.inputs, dense.dim(1), name);
    double meaning = 1;
    for (const double step : steps) {
      const double density = std::min(std::max(most_dense, density_of_all), step * density_of_all);
      if (!curve.densities.empty() && density <= curve.densities.back()) continue;
      if (!fits(*s_.pattern, *restore.before().front(), 1 - density, name)) continue;
      PruneSettings settings = s_;
      settings.sparsity = 1 - density;
      slot = restore.before().front();
      prune_weight(name, slot, settings, measured);
      const double error = std::max(output_error(dense, slot->to_dense(), curvature).relative(), 1e-12);
      curve.densities.push_back(density);
      curve.errors.push_back(error);
      if (step == 1) meaning = std::max(finite_divergence(reference_.distance(model_).kl, name), 1e-12) / error;
    }
    for (double& error : curve.errors) error *= meaning;
    return curve;
  }

  double divergence_of(const std::vector<LayerSparsity>& sparsities) {
    const Restore restore(slots_);
    PruneSettings settings = s_;
    settings.own = sparsities;
    settings.keep = {};  // nothing of it is kept
    prune_model(model_, settings);
    return reference_.distance(model_).kl;
  }

  Transformer& model_;
  const PruneSettings& s_;
  std::vector<std::string> names_;
  std::vector<std::shared_ptr<Weight>*> slots_;  // of those names
  std::vector<ErrorCurve> curves_;
  Reference reference_;
};

Allotted search(Transformer& model, const PruneSettings& s) {
  if (s.sparsity == 0) return uniform_allocation().run(model, s);
  return Search(model, s).run();
}

}  // namespace

Allocation search_allocation() {
  return {"search", "by what each weight does to the predictions, and its error at other sparsities", true, search};
}

}  // namespace hone
