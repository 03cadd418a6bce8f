#include "compress/gradual.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "compress/masks.h"
#include "compress/schedule.h"
#include "compress/scores.h"

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

GradualPruning::GradualPruning(std::shared_ptr<const Pattern> pattern, double sparsity, double from, double until,
                               int64_t every, int64_t steps)
    : pattern_(std::move(pattern)), sparsity_(sparsity), every_(every) {
  if (pattern_->fixed_sparsity())
    throw usage_error(
        "pattern {} has a sparsity of its own and cannot grow while a model trains; prune it, then train it further",
        pattern_->name());
  if (!(sparsity >= 0 && sparsity < 1)) throw usage_error("a sparsity of {} is not in [0, 1)", sparsity);
  if (!(from >= 0 && from <= until && until <= 1) || every < 1)
    throw usage_error("pruning from {} to {} of the steps, every {}, is no schedule", from, until, every);
  const auto part = [&](double of) { return std::llround(of * static_cast<double>(steps)); };
  until_ = std::max<int64_t>(0, std::min<int64_t>(part(until), steps - 1));
  from_ = std::min<int64_t>(part(from), until_);
}

void GradualPruning::check(Transformer& model) const {
  PrunableWeights fits([&](const std::string& name, Weight& weight) {
    pattern_->check_shape(weight.rows(), weight.cols(), sparsity_, name);
  });
  model.visit(fits);
}

void GradualPruning::before_step(Transformer& model, int64_t step) const {
  if (step < from_ || step > until_ || ((step - from_) % every_ && step != until_)) return;
  const double sparsity = cubic_sparsity(sparsity_, step, from_, until_);
  const ScoreMethod& method = score_method("magnitude");
  PrunableWeights prune([&](const std::string& name, Weight& weight) {
    const Tensor scores = pruning_scores(method, weight.to_dense(), {}, name);
    weight.set_mask(select_mask(scores, *pattern_, sparsity, method.comparison, name, weight.mask()));
  });
  model.visit(prune);
}

PrunedBeyond pruned_beyond(Transformer& model, double sparsity) {
  PrunedBeyond result;
  PrunableWeights count([&](const std::string&, Weight& weight) {
    const Tensor mask = weight.mask();
    ++result.weights;
    result.beyond += mask && mask_sparsity(mask, weight.cols()) > sparsity;
  });
  model.visit(count);
  return result;
}

}  // namespace hone
