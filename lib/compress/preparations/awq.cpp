// Scaling the inputs of linear layers so that rounding spares those that matter (AWQ: Lin et al., arXiv 2306.00978).
//
// Input j of a layer's weight is multiplied by s_j, and the gain and bias of the norm before it divided by s_j:
// s_j = E[x_j^2]^(a/2) over the tokens of the text, their geometric mean 1. Of a = 0, 1/8, …, 1 each layer gets the one
// behind which rounding to its element leaves the least sum_j E[x_j^2] (w_j - w'_j)^2 (section 3.2 there, which takes
// means of |x_j|). Its number is a; 0: left as it was.
//
// Only where one layer reads the norm: query/key/value, what takes its place in another mixer, and up of a feed-forward
// without experts. Others, those with elements without scales and what is packed already stay as they are.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "base/error.h"
#include "compress/preparation.h"
#include "compress/quantize_matrix.h"
#include "weights/dense_weight.h"

namespace hone {
namespace {

constexpr int exponents = 8;  // beside 0

// A layer that alone reads a norm.
struct Reading {
  std::shared_ptr<Weight>* weight = nullptr;
  Norm* norm = nullptr;
};

// Of the first layer in half a block, if nothing beside it reads what the norm gives.
class FirstLayer : public Visitor {
 public:
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    if (info.kind >= 0) {
      others_ = true;  // each kind of rows has a layer of its own
    } else if (begins_branch(info.role)) {
      others_ = others_ || weight_;
      name = info.name;
      weight_ = &weight;
    } else if (!is_linear(info.role)) {
      others_ = true;  // a router
    }
  }
  void parameter(const ParameterInfo&, Parameter&) override {}
  void begin_experts(int64_t, int64_t) override { others_ = true; }
  std::shared_ptr<Weight>* alone() const { return others_ ? nullptr : weight_; }
  std::string name;

 private:
  std::shared_ptr<Weight>* weight_ = nullptr;
  bool others_ = false;
};

std::map<std::string, Reading> readings_of(Transformer& model) {
  std::map<std::string, Reading> readings;
  for (size_t b = 0; b < model.blocks().size(); ++b) {
    Block& block = model.blocks()[b];
    const Place place = Transformer::place_of_block(static_cast<int64_t>(b));
    FirstLayer mixes, feeds;
    if (block.mixer) block.mixer->visit(place.in(block.mixer->place()), mixes);
    if (block.feed_forward) block.feed_forward->visit(place.in("feed_forward"), feeds);
    if (mixes.alone()) readings[mixes.name] = {mixes.alone(), &block.mixer_norm};
    if (feeds.alone()) readings[feeds.name] = {feeds.alone(), &block.feed_forward_norm};
  }
  return readings;
}

// E[x_j^2]^(a/2), their geometric mean 1. An input that is never anything counts as the least of the others.
std::vector<float> scales_for(const std::vector<float>& moments, double exponent) {
  double least = 0, sum = 0;
  for (const float m : moments)
    if (m > 0) least = least == 0 ? m : std::min<double>(least, m);
  std::vector<double> logs;
  for (const float m : moments) {
    logs.push_back(least == 0 ? 0 : exponent / 2 * std::log(m > 0 ? m : least));
    sum += logs.back();
  }
  std::vector<float> scales;
  for (const double log : logs)
    scales.push_back(static_cast<float>(std::exp(log - sum / static_cast<double>(logs.size()))));
  return scales;
}

Tensor scaled_columns(const Tensor& weight, const std::vector<float>& scales) {
  Tensor scaled = Tensor::empty(weight.shape());
  const float* from = weight.data<float>();
  float* to = scaled.data<float>();
  for (int64_t i = 0, row = 0; row < weight.dim(0); ++row)
    for (const float s : scales) {
      to[i] = from[i] * s;
      ++i;
    }
  return scaled;
}

double rounding_error(const Tensor& weight, const Bitmask& mask, const LayerType& layer,
                      const std::vector<float>& moments, const std::vector<float>& scales, bool search) {
  QuantizeOptions options;
  options.element = layer.element;
  options.group = layer.group;
  options.search = search;
  std::vector<float> behind(moments);  // of the inputs once they are divided
  for (size_t j = 0; j < behind.size(); ++j) behind[j] /= scales[j] * scales[j];
  const QuantizedMatrix matrix = quantize_matrix(weight, options, layer.name, behind, mask);
  return quantization_error(weight, matrix, behind).squared_error;
}

double balance(const Reading& reading, const LayerType& layer, const std::vector<float>& moments, bool search) {
  const Tensor dense = (*reading.weight)->to_dense();
  const Bitmask mask = (*reading.weight)->mask();
  double best = 0, least = rounding_error(dense, mask, layer, moments, scales_for(moments, 0), search);
  for (int i = 1; i <= exponents; ++i) {
    const double exponent = static_cast<double>(i) / exponents;
    const std::vector<float> scales = scales_for(moments, exponent);
    const double error = rounding_error(scaled_columns(dense, scales), mask, layer, moments, scales, search);
    if (error >= least) continue;
    least = error;
    best = exponent;
  }
  if (best == 0) return 0;
  const std::vector<float> scales = scales_for(moments, best);
  for (Parameter* parameter : {reading.norm->gain.get(), reading.norm->bias.get()})
    if (parameter) {
      Tensor divided = Tensor::empty(parameter->value.shape());  // the other may lie in a mapped file
      for (size_t j = 0; j < scales.size(); ++j)
        divided.data<float>()[j] = parameter->value.data<float>()[j] / scales[j];
      parameter->value = divided;
    }
  *reading.weight = std::make_shared<DenseWeight>(scaled_columns(dense, scales), mask);
  return best;
}

std::map<std::string, double> awq(const ModelToPrepare& what) {
  const std::map<std::string, Reading> readings = readings_of(what.model);
  std::vector<LayerType> chosen;
  std::vector<CalibrationTarget> targets;
  for (const LayerType& layer : what.layers) {
    const auto reading = readings.find(layer.name);
    if (reading == readings.end() || !kernels::info_of(layer.element).scaled ||
        (*reading->second.weight)->element() != "f32")
      continue;
    chosen.push_back(layer);
    targets.push_back({layer.name, {StatisticKind::of<ColumnSquares>()}});
  }
  std::map<std::string, double> done;
  const auto change = [&](size_t i, const Measurement& measured) {
    const std::string& name = chosen[i].name;
    done[name] = measured.inputs
                     ? balance(readings.at(name), chosen[i], measured.inputs->get<ColumnSquares>().means(), what.search)
                     : 0;
  };
  calibrate(what.model, targets, MeasuredBehind::blocks, &what.text, what.type, change);
  return done;
}

}  // namespace

Preparation awq_preparation() {
  return {
      "awq",
      "scales the inputs of query/key/value and up where it lessens what rounding costs, and the norm before them by "
      "the inverse",
      "awq_exponent", awq};
}

}  // namespace hone
