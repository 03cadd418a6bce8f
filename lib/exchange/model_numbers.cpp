#include "exchange/model_numbers.h"

#include <algorithm>

#include "tensor/pages.h"

namespace hone {

ModelNumbers::ModelNumbers(const Transformer& model) {
  struct Collector : Reader {
    explicit Collector(ModelNumbers& to) : to_(to) {}
    void weight(const ParameterInfo& info, const Weight& weight) override { to_.weights_[info.name] = &weight; }
    void parameter(const ParameterInfo& info, const Parameter& parameter) override {
      to_.values_[info.name] = parameter.value;
    }
    ModelNumbers& to_;
  } collector(*this);
  model.visit(collector);
}

Tensor ModelNumbers::of(const std::string& parameter) const {
  const auto found = weights_.find(parameter);
  if (found == weights_.end()) return values_.at(parameter);
  Tensor dense = found->second->to_dense();
  found->second->let_go();
  return dense;
}

namespace {

Tensor taken_of(const TensorOrigin& origin, const std::string& parameter, const ModelNumbers& numbers) {
  const Tensor whole = numbers.of(parameter);
  Tensor part = take_apart(origin.part, whole, origin.first);
  let_go(whole);
  return part;
}

}  // namespace

Tensor numbers_of(const TensorOrigin& origin, const ModelNumbers& numbers) {
  if (origin.of_experts.empty()) return taken_of(origin, origin.parameter, numbers);
  const Tensor all = Tensor::empty(origin.part.whole());
  float* to = all.data<float>();
  for (const std::string& parameter : origin.of_experts) {
    const Tensor one = taken_of(origin, parameter, numbers);
    to = std::copy_n(one.data<float>(), one.size(), to);
    let_go(one);
  }
  return all;
}

TensorOrigins origins_of(const Config& config, Parts (*parts)(const Config&, const ParameterInfo&),
                         const ModelNumbers& numbers) {
  TensorOrigins origins;
  for (const ParameterShape& p : parameter_shapes(config)) {
    const Parts made_of = parts(config, p.info);
    if (made_of.zero)
      for (const float x : numbers.of(p.info.name).span<float>()) express(x == 0, "a router's bias that is not 0");
    int64_t first = 0;
    for (const Part& part : made_of.parts) {
      TensorOrigin& origin = origins[part.tensor];
      if (part.expert == 0) origin = {p.info.name, part, first};
      if (part.experts > 0) origin.of_experts.push_back(p.info.name);
      first += rows_of(part);
    }
  }
  return origins;
}

}  // namespace hone
