#include "model/upcycle.h"

#include <map>

#include "base/error.h"
#include "weights/dense_weight.h"

namespace hone {

Config with_mixtures(Config config, const MixtureShape& shape) {
  for (size_t i = 0; i < config.layers.size(); ++i) {
    if (!shape.layers.at(i)) continue;
    LayerBlueprint& layer = config.layers[i];
    if (layer.experts > 0)
      throw usage_error("layer {} is a mixture of {} experts already; only dense layers can be turned into one", i,
                        layer.experts);
    layer.experts = shape.experts;
    layer.top_k = shape.top_k;
    layer.shared_experts = shape.shared_experts;
    layer.router = shape.router;
  }
  check(config);
  return config;
}

namespace {

// The weights and parameters of the dense model by name.
struct Source : Visitor {
  std::map<std::string, std::shared_ptr<Weight>> weights;
  std::map<std::string, Tensor> parameters;
  void weight(const std::string& name, std::shared_ptr<Weight>& weight, Linear*) override {
    if (!weight->parameter())
      throw usage_error("'{}' is a {} {} weight; turn the model into a mixture before it is quantized", name,
                        weight->form(), weight->element());
    weights[name] = weight;
  }
  void parameter(const std::string& name, Parameter& parameter) override { parameters[name] = parameter.value; }
};

// Fills a mixture that initialize() has filled.
class Filler : public Visitor {
 public:
  Filler(const Source& source, const MixtureShape& shape, double noise, uint64_t seed)
      : source_(source), noise_(noise), seed_(seed), scale_(1) {
    if (shape.top_k == 1) scale_ = shape.router == RouterKind::softmax ? static_cast<double>(shape.experts) : 2.0;
  }

  void weight(const std::string& name, std::shared_ptr<Weight>& weight, Linear*) override {
    if (is_shared(name)) {
      if (name.ends_with(".down.weight")) clear(weight->parameter()->value);
      return;
    }
    const std::string from = dense_name(name);
    const Weight& dense = *source_.weights.at(from);
    Tensor value = dense.to_dense().clone();
    if (from != name) perturb(name, value, name.ends_with(".down.weight") ? scale_ : 1.0);
    weight = std::make_shared<DenseWeight>(std::move(value), dense.mask());
  }

  void parameter(const std::string& name, Parameter& parameter) override {
    if (name.ends_with("router.weight"))  // nearly even at first, so that experts keep what they were copied from
      for (float& w : parameter.value.span<float>()) w *= 0.1f;
    const std::string from = dense_name(name);
    const auto found = source_.parameters.find(from);
    if (found == source_.parameters.end()) return;  // routers, and biases of shared experts, which begin with 0
    parameter.value = found->second.clone();
    if (from != name && name.ends_with(".down.bias"))
      for (float& x : parameter.value.span<float>()) x *= static_cast<float>(scale_);
    ++parameter.version;
  }

 private:
  static bool is_shared(const std::string& name) { return name.find(".feed_forward.shared.") != std::string::npos; }
  static void clear(const Tensor& t) {
    for (float& x : t.span<float>()) x = 0;
  }

  // "blocks.0.feed_forward.experts.3.down.weight" came from "blocks.0.feed_forward.down.weight".
  static std::string dense_name(const std::string& name) {
    const size_t begin = name.find(".experts.");
    if (begin == std::string::npos) return name;
    return name.substr(0, begin) + name.substr(name.find('.', begin + 9));
  }

  void perturb(const std::string& name, const Tensor& value, double scale) const {
    Random random(seed_, "upcycle:" + name);
    for (float& w : value.span<float>())
      w = static_cast<float>(static_cast<double>(w) * scale * (1 + noise_ * random.normal()));
  }

  const Source& source_;
  double noise_;
  uint64_t seed_;
  double scale_;  // of what an expert gives
};

}  // namespace

std::unique_ptr<Transformer> upcycle(Transformer& dense, const MixtureShape& shape, double noise, uint64_t seed) {
  Source source;
  dense.visit(source);
  auto model = std::make_unique<Transformer>(with_mixtures(dense.config(), shape));
  initialize(*model, seed);
  Filler filler(source, shape, noise, seed);
  model->visit(filler);
  return model;
}

}  // namespace hone
