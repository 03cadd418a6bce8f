#include "compress/activations.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "compress/effects.h"

namespace hone {
namespace {

class ActivationChooser {
 public:
  ActivationChooser(Transformer& model, std::span<const std::string> names, const ActivationSettings& s)
      : model_(model),
        s_(s),
        slots_(weight_slots(model, activation_layers(model, names))),
        reference_(model, *s.text, DType::f32, divergence_windows) {
    for (const WeightSlot& slot : slots_) {
      const Weight& weight = **slot.weight;
      result_.layers.push_back({slot.name, weight.rows() * weight.cols()});
      exact_.push_back(with_activation_bits(weight, 16));
      eight_.push_back(with_activation_bits(weight, 8));
      eight_.back()->set_rounding({kernels::F32Activations::integers, 8});
      *slot.weight = exact_.back();
    }
  }

  ActivationChoice run() {
    result_.before = result_.after = reference_.own();
    if (!std::isfinite(result_.before.loss))
      throw input_error("the loss of the quantized model on the text is {}: nothing can be chosen by it",
                        result_.before.loss);
    measure_each();
    choose();
    return std::move(result_);
  }

 private:
  void put(size_t i, int bits) {
    result_.layers[i].bits = bits;
    *slots_[i].weight = bits == 8 ? eight_[i] : exact_[i];
  }

  void measure_each() {
    std::vector<Replacement> replacements;
    for (size_t i = 0; i < slots_.size(); ++i) replacements.push_back({slots_[i], eight_[i]});
    const auto effects = replacement_effects(model_, effect_windows(*s_.text), replacements, s_.progress);
    for (size_t i = 0; i < slots_.size(); ++i) {
      result_.layers[i].kl = finite_divergence(effects[i].value_or(0), slots_[i].name);
      if (effects[i]) order_.push_back(i);  // elsewhere nothing speaks for 8 bits but that nobody looked
    }
    std::ranges::stable_sort(
        order_, {}, [&](size_t i) { return result_.layers[i].kl / static_cast<double>(result_.layers[i].elements); });
  }

  // The first `count` in the order of what they cost for their products.
  void take(size_t count) {
    for (size_t k = 0; k < order_.size(); ++k) put(order_[k], k < count ? 8 : 16);
  }

  // Of the model as it is now; nothing where that exceeds the bound.
  std::optional<Distance> within_bound() const {
    const double most = s_.max_loss_increase * result_.before.loss;
    const std::optional<Distance> d = reference_.distance_within(model_, most);
    return d && std::max(d->kl, d->loss - result_.before.loss) <= most ? d : std::nullopt;
  }

  // The more are taken, the more they cost: how many keep the bound is found by halving, beginning with all.
  void choose() {
    size_t kept = 0, broken = order_.size() + 1;
    for (size_t count = order_.size(); broken - kept > 1; count = (kept + broken) / 2) {
      take(count);
      if (const std::optional<Distance> d = within_bound()) {
        kept = count;
        result_.after = *d;
      } else {
        broken = count;
      }
    }
    take(kept);
  }

  Transformer& model_;
  const ActivationSettings& s_;
  std::vector<WeightSlot> slots_;
  Reference reference_;
  std::vector<std::shared_ptr<Weight>> exact_, eight_;  // the same arrays
  std::vector<size_t> order_;                           // what may be taken, that which costs least first
  ActivationChoice result_;
};

}  // namespace

std::vector<std::string> activation_layers(Transformer& model, std::span<const std::string> names) {
  std::vector<std::string> layers;
  for (const WeightSlot& slot : weight_slots(model, names)) {
    const bool looked_up = slot.role == Role::embedding && !model.config().tied;
    if (!looked_up && kernels::is_integer_element((*slot.weight)->element())) layers.push_back(slot.name);
  }
  return layers;
}

ActivationChoice choose_activations(Transformer& model, std::span<const std::string> names,
                                    const ActivationSettings& settings) {
  return ActivationChooser(model, names, settings).run();
}

}  // namespace hone
