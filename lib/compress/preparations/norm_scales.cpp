#include "compress/preparations/norm_scales.h"

#include <cmath>

#include "compress/quantize_matrix.h"
#include "weights/dense_weight.h"

namespace hone {
namespace {

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

// By the names of their weights.
std::map<std::string, NormReader> norm_readers(Transformer& model) {
  std::map<std::string, NormReader> readers;
  for (size_t b = 0; b < model.blocks().size(); ++b) {
    Block& block = model.blocks()[b];
    const Place place = Transformer::place_of_block(static_cast<int64_t>(b));
    FirstLayer mixes, feeds;
    if (block.mixer) block.mixer->visit(place.in(block.mixer->place()), mixes);
    if (block.feed_forward) block.feed_forward->visit(place.in("feed_forward"), feeds);
    if (mixes.alone()) readers[mixes.name] = {mixes.alone(), &block.mixer_norm};
    if (feeds.alone()) readers[feeds.name] = {feeds.alone(), &block.feed_forward_norm};
  }
  return readers;
}

}  // namespace

std::map<std::string, double> change_norm_readers(const ModelToPrepare& what,
                                                  bool (*helps)(const kernels::ElementInfo& element),
                                                  const std::vector<StatisticKind>& needs, const ReaderChange& change) {
  const std::map<std::string, NormReader> readers = norm_readers(what.model);
  std::vector<LayerType> chosen;
  std::vector<CalibrationTarget> targets;
  for (const LayerType& layer : what.layers) {
    const auto reader = readers.find(layer.name);
    if (reader == readers.end() || !helps(kernels::info_of(layer.element)) ||
        (*reader->second.weight)->element() != "f32")
      continue;
    chosen.push_back(layer);
    targets.push_back({layer.name, needs});
  }
  std::map<std::string, double> numbers;
  calibrate(what.model, targets, MeasuredBehind::blocks, &what.text, what.type,
            [&](size_t i, const Measurement& measured) {
              const std::string& name = chosen[i].name;
              if (const auto number = change(readers.at(name), chosen[i], measured)) numbers[name] = *number;
            });
  return numbers;
}

std::vector<float> centred_scales(const std::vector<double>& logs) {
  double sum = 0;
  for (const double log : logs) sum += log;
  std::vector<float> scales;
  for (const double log : logs)
    scales.push_back(static_cast<float>(std::exp(log - sum / static_cast<double>(logs.size()))));
  return scales;
}

Tensor scaled_columns(const Tensor& weight, std::span<const float> scales) {
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

std::vector<float> moments_behind(std::span<const float> moments, std::span<const float> scales) {
  std::vector<float> behind(moments.begin(), moments.end());
  for (size_t j = 0; j < behind.size(); ++j) behind[j] /= scales[j] * scales[j];
  return behind;
}

QuantizedMatrix rounded_as(const LayerType& layer, const Tensor& matrix, const Bitmask& mask,
                           std::span<const float> moments, bool search) {
  QuantizeOptions options;
  options.element = layer.element;
  options.group = layer.group;
  options.search = search;
  return quantize_matrix(matrix, options, layer.name, moments, mask);
}

void scale_inputs(const NormReader& reader, const Tensor& dense, const Bitmask& mask, std::span<const float> scales) {
  for (Parameter* parameter : {reader.norm->gain.get(), reader.norm->bias.get()})
    if (parameter) {
      Tensor divided = Tensor::empty(parameter->value.shape());  // the other may lie in a mapped file
      for (size_t j = 0; j < scales.size(); ++j)
        divided.data<float>()[j] = parameter->value.data<float>()[j] / scales[j];
      parameter->value = divided;
    }
  *reader.weight = std::make_shared<DenseWeight>(scaled_columns(dense, scales), mask);
}

}  // namespace hone
