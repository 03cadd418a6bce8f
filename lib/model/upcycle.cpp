#include "model/upcycle.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "base/error.h"
#include "base/random.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "weights/dense_weight.h"

namespace hone {

Config with_mixtures(Config config, const MixtureShape& shape) {
  for (size_t i = 0; i < config.layers.size(); ++i) {
    if (!shape.layers.at(i)) continue;
    LayerBlueprint& layer = config.layers[i];
    if (layer.experts > 0)
      throw usage_error("layer {} is a mixture of {} already; only dense layers can be turned into one", i,
                        counted(layer.experts, "expert"));
    if (!layer.feeds()) throw usage_error("layer {} has no feed-forward that could become a mixture", i);
    layer.experts = shape.experts;
    layer.top_k = shape.top_k;
    layer.shared_experts = shape.shared_experts;
    layer.shared_gate = shape.shared_gate;
    layer.router = shape.router;
  }
  check(config);
  return config;
}

namespace {

// What a parameter of the mixture comes from: the layer and role are the same in the dense model, which has no experts.
using Origin = std::tuple<Role, int64_t, std::string>;
Origin origin_of(const ParameterInfo& info) {
  const bool feed_forward = info.of == Role::up || info.of == Role::down;
  return {info.of, info.layer, feed_forward ? (info.role == Role::bias ? "bias" : "weight") : info.name};
}

struct OldModel : Reader {
  std::map<Origin, Tensor> weights, parameters;
  std::map<Origin, Bitmask> masks;
  void weight(const ParameterInfo& info, const Weight& weight) override {
    if (!weight.trainable())
      throw usage_error("'{}' is a {} {} weight; turn the model into a mixture before it is quantized", info.name,
                        weight.form(), weight.element());
    weights[origin_of(info)] = weight.to_dense();
    masks[origin_of(info)] = weight.mask();
  }
  void parameter(const ParameterInfo& info, const Parameter& parameter) override {
    parameters[origin_of(info)] = parameter.value;
  }
};

// Fills a mixture that initialize() has filled.
class Filler : public Visitor {
 public:
  Filler(const OldModel& source, const MixtureShape& shape, double noise, uint64_t seed)
      : source_(source),
        noise_(noise),
        seed_(seed),
        shared_(shape.shared_experts),
        shared_scale_(shape.shared_gate ? 2 : 1) {
    if (shared_ > 0)
      expert_scale_ = 0;
    else if (shape.top_k == 1)
      expert_scale_ = shape.router == RouterKind::softmax ? static_cast<double>(shape.experts) : 2.0;
  }

  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    check_stop();
    if (!info.part.here()) return;
    Tensor value = source_.weights.at(origin_of(info)).clone();
    Bitmask mask = source_.masks.at(origin_of(info));
    const bool down = info.role == Role::down;
    if (info.shared) {
      const Sharing sharing{shared_, value.dim(0), value.dim(1), down, info.gated};
      value = share(info.name, value, sharing);
      if (mask) mask = share_mask(mask, sharing);
    } else if (info.expert >= 0) {
      perturb(info.name, value, down ? expert_scale_ : 1.0);
    }
    weight = std::make_shared<DenseWeight>(std::move(value), std::move(mask));
  }

  void parameter(const ParameterInfo& info, Parameter& parameter) override {
    if (!info.part.here()) return;
    if (info.role == Role::shared_gate) {  // 1/2 for all tokens
      std::ranges::fill(parameter.value.span<float>(), 0.0f);
      ++parameter.version;
    }
    if (info.role == Role::router)  // nearly even at first, so that experts keep what they were copied from
      for (float& w : parameter.value.span<float>()) w *= 0.1f;
    const auto found = source_.parameters.find(origin_of(info));
    if (found == source_.parameters.end()) return;  // routers
    Tensor value = found->second.clone();
    const bool down = info.of == Role::down;
    if (info.shared && !down) value = share(info.name, value, {shared_, value.size(), 1, false, info.gated});
    if ((info.expert >= 0 || info.shared) && down)
      for (float& x : value.span<float>()) x *= info.shared ? shared_scale_ : static_cast<float>(expert_scale_);
    parameter.value = value.reshape(parameter.value.shape());
    ++parameter.version;
  }

 private:
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
        now = s.down ? shared_scale_ * w : w;
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

  const OldModel& source_;
  double noise_;
  uint64_t seed_;
  int64_t shared_;
  float shared_scale_;       // of what the first shared expert gives
  double expert_scale_ = 1;  // of what an expert gives
};

}  // namespace

std::unique_ptr<Transformer> upcycle(const Transformer& dense, const MixtureShape& shape, double noise, uint64_t seed) {
  OldModel source;
  dense.visit(source);
  auto model = std::make_unique<Transformer>(with_mixtures(dense.config(), shape), dense.model_ranks());
  if (ShapesOnly::active()) return model;
  initialize(*model, seed);
  Filler filler(source, shape, noise, seed);
  model->visit(filler);
  return model;
}

}  // namespace hone
