#include "compress/gradual.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "compress/methods/prune_method.h"
#include "compress/schedule.h"

namespace hone {
namespace {

// Calls f(name, weight) for every linear layer's weight but the head's.
template <class F>
class PrunableWeights : public Visitor {
 public:
  explicit PrunableWeights(F f) : f_(std::move(f)) {}
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    if (is_linear(info.role) && info.role != Role::head) f_(info.name, *weight);
  }
  void parameter(const ParameterInfo&, Parameter&) override {}

 private:
  F f_;
};

}  // namespace

GradualPruning::GradualPruning(Transformer& model, const GradualSettings& settings)
    : model_(model), settings_(settings) {
  const GradualSettings& s = settings_;
  if (s.pattern->fixed_sparsity())
    throw usage_error(
        "pattern {} has a sparsity of its own and cannot grow while a model trains; prune it, then train it further",
        s.pattern->name());
  if (!(s.sparsity >= 0 && s.sparsity < 1)) throw usage_error("a sparsity of {} is not in [0, 1)", s.sparsity);
  if (!(s.from >= 0 && s.from <= s.until && s.until <= 1) || s.every < 1)
    throw usage_error("pruning from {} to {} of the steps, every {}, is no schedule", s.from, s.until, s.every);
  const auto part = [&](double of) { return std::llround(of * static_cast<double>(s.steps)); };
  until_ = std::max<int64_t>(0, std::min<int64_t>(part(s.until), s.steps - 1));
  from_ = std::min<int64_t>(part(s.from), until_);
  PrunableWeights fits([&](const std::string& name, Weight& weight) {
    s.pattern->check_shape(weight.rows(), weight.cols(), s.sparsity, name);
  });
  model.visit(fits);
}

void GradualPruning::before_step(int64_t step) const {
  const GradualSettings& s = settings_;
  if (step < from_ || step > until_ || ((step - from_) % s.every && step != until_)) return;
  const double sparsity = cubic_sparsity(s.sparsity, step, from_, until_);
  const PruneMethod& method = prune_method("magnitude");
  PrunableWeights prune([&](const std::string& name, Weight& weight) {
    weight.set_mask(method.run({name, weight.to_dense(), weight.mask(), nullptr, *s.pattern, sparsity}).mask);
  });
  model_.visit(prune);
}

PrunedBeyond GradualPruning::pruned_beyond() const {
  PrunedBeyond result;
  PrunableWeights count([&](const std::string&, Weight& weight) {
    const Bitmask mask = weight.mask();
    ++result.weights;
    result.beyond += mask && mask.sparsity() > settings_.sparsity;
  });
  model_.visit(count);
  return result;
}

}  // namespace hone
