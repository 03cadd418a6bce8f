#include "model/upcycle.h"

#include <map>

#include "base/error.h"
#include "base/stop.h"
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
      : source_(source), noise_(noise), seed_(seed), shared_(shape.shared_experts) {
    if (shared_ > 0)
      expert_scale_ = 0;
    else if (shape.top_k == 1)
      expert_scale_ = shape.router == RouterKind::softmax ? static_cast<double>(shape.experts) : 2.0;
  }

  void weight(const std::string& name, std::shared_ptr<Weight>& weight, Linear*) override {
    check_stop();
    const Weight& dense = *source_.weights.at(dense_name(name));
    Tensor value = dense.to_dense().clone();
    Bitmask mask = dense.mask();
    const bool down = name.ends_with(".down.weight");
    if (is_shared(name)) {
      const Sharing sharing{shared_, value.dim(0), value.dim(1), down, name.ends_with(".gate_up.weight")};
      value = share(name, value, sharing);
      if (mask) mask = share_mask(mask, sharing);
    } else if (is_expert(name)) {
      perturb(name, value, down ? expert_scale_ : 1.0);
    }
    weight = std::make_shared<DenseWeight>(std::move(value), std::move(mask));
  }

  void parameter(const std::string& name, Parameter& parameter) override {
    if (name.ends_with("router.weight"))  // nearly even at first, so that experts keep what they were copied from
      for (float& w : parameter.value.span<float>()) w *= 0.1f;
    const auto found = source_.parameters.find(dense_name(name));
    if (found == source_.parameters.end()) return;  // routers
    Tensor value = found->second.clone();
    const bool down = name.ends_with(".down.bias");
    if (is_shared(name) && !down)
      value = share(name, value, {shared_, value.size(), 1, false, name.ends_with(".gate_up.bias")});
    if (is_expert(name) && down)
      for (float& x : value.span<float>()) x *= static_cast<float>(expert_scale_);
    parameter.value = value.reshape(parameter.value.shape());
    ++parameter.version;
  }

 private:
  static bool is_shared(const std::string& name) { return name.find(".feed_forward.shared.") != std::string::npos; }
  static bool is_expert(const std::string& name) { return name.find(".feed_forward.experts.") != std::string::npos; }

  // "blocks.0.feed_forward.experts.3.down.weight", and "….shared.down.weight", come from
  // "blocks.0.feed_forward.down.weight".
  static std::string dense_name(const std::string& name) {
    for (const std::string part : {".shared", ".experts."}) {
      const size_t begin = name.find(part);
      if (begin != std::string::npos) return name.substr(0, begin) + name.substr(name.find('.', begin + part.size()));
    }
    return name;
  }

  void perturb(const std::string& name, const Tensor& value, double scale) const {
    Random random(seed_, "upcycle:" + name);
    for (float& w : value.span<float>())
      w = static_cast<float>(static_cast<double>(w) * scale * (1 + noise_ * random.normal()));
  }

  // How the hidden units of `experts` feed-forwards that compute as one stand in a matrix whose dense one is rows x
  // cols: in the columns of a down projection, else in the rows, gates before all others where both are in it.
  struct Sharing {
    int64_t experts, rows, cols;
    bool down, gated;
    int64_t rows_now() const { return down ? rows : rows * experts; }
    int64_t cols_now() const { return down ? cols * experts : cols; }

    // f(row, column, row of the dense matrix, column of it, which expert) for each element.
    template <class F>
    void each(F&& f) const {
      const int64_t units = down ? cols : gated ? rows / 2 : rows;
      for (int64_t r = 0; r < rows_now(); check_stop(), ++r)
        for (int64_t c = 0; c < cols_now(); ++c) {
          const int64_t at = down ? c : r, part = at / (units * experts), expert = at / units % experts;
          const int64_t from = part * units + at % units;
          f(r, c, down ? r : from, down ? from : c, expert);
        }
    }
  };

  Tensor share(const std::string& name, const Tensor& dense, const Sharing& s) const {
    Random random(seed_, "upcycle:" + name);
    const Tensor result = Tensor::empty({s.rows_now(), s.cols_now()});
    const auto from = dense.span<float>(), to = result.span<float>();
    s.each([&](int64_t r, int64_t c, int64_t dense_r, int64_t dense_c, int64_t expert) {
      const float w = from[static_cast<size_t>(dense_r * s.cols + dense_c)];
      float& now = to[static_cast<size_t>(r * s.cols_now() + c)];
      if (expert == 0)
        now = w;
      else
        now = s.down ? 0 : static_cast<float>(static_cast<double>(w) * (1 + noise_ * random.normal()));
    });
    return result;
  }

  static Bitmask share_mask(const Bitmask& dense, const Sharing& s) {
    const Bitmask result = Bitmask::zeros(s.rows_now(), s.cols_now());
    s.each([&](int64_t r, int64_t c, int64_t dense_r, int64_t dense_c, int64_t) {
      if (dense.at(dense_r, dense_c)) result.set(r, c);
    });
    return result;
  }

  const Source& source_;
  double noise_;
  uint64_t seed_;
  int64_t shared_;
  double expert_scale_ = 1;  // of what an expert gives
};

}  // namespace

std::unique_ptr<Transformer> upcycle(Transformer& dense, const MixtureShape& shape, double noise, uint64_t seed) {
  Source source;
  dense.visit(source);
  auto model = std::make_unique<Transformer>(with_mixtures(dense.config(), shape));
  if (ShapesOnly::active()) return model;
  initialize(*model, seed);
  Filler filler(source, shape, noise, seed);
  model->visit(filler);
  return model;
}

}  // namespace hone
