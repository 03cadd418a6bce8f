#include "compress/quantize_aware.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "compress/quantize_matrix.h"
#include "weights/computed_weight.h"

namespace hone {
namespace {

// Calls f(name, weight) for every linear layer's weight but the head's; f may replace it.
template <class F>
class BlockWeights : public Visitor {
 public:
  explicit BlockWeights(F f) : f_(std::move(f)) {}
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    if (is_linear(info.role) && info.role != Role::head) f_(info.name, weight);
  }
  void parameter(const ParameterInfo&, Parameter&) override {}

 private:
  F f_;
};

}  // namespace

QuantizeAware::QuantizeAware(Transformer& model, const QuantizeAwareSettings& s)
    : model_(model),
      from_(std::clamp<int64_t>(std::llround(s.from * static_cast<double>(s.steps)), 0,
                                std::max<int64_t>(0, s.steps - 1))) {
  if (!kernels::info_of(s.element).scaled)
    throw usage_error("training rounds to elements with scales; {} has none", kernels::info_of(s.element).name);
  BlockWeights wrap([&](const std::string& name, std::shared_ptr<Weight>& weight) {
    const auto round = [name, options = QuantizeOptions{s.element, s.group, true}](const Tensor& values,
                                                                                   const Bitmask& mask) {
      return dequantize(quantize_matrix(values, options, name, {}, mask));
    };
    weight = std::make_shared<StraightThroughWeight>(weight, round, active_);
  });
  model_.visit(wrap);
}

void QuantizeAware::finish() {
  BlockWeights unwrap([&](const std::string&, std::shared_ptr<Weight>& weight) {
    const auto through = std::dynamic_pointer_cast<StraightThroughWeight>(weight);
    if (!through) return;
    weight = through->master();
    if (*active_) weight = std::make_shared<DenseWeight>(through->rounded(), through->mask());
  });
  model_.visit(unwrap);
}

}  // namespace hone
