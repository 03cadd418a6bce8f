#include "model/rebuild.h"

#include <map>
#include <numeric>

#include "base/error.h"
#include "base/stop.h"
#include "nn/attention/score.h"
#include "weights/dense_weight.h"

namespace hone {
namespace {

struct Source : Reader {
  std::map<std::string, const Weight*> weights;
  std::map<std::string, const Parameter*> parameters;
  void weight(const ParameterInfo& info, const Weight& weight) override { weights[info.name] = &weight; }
  void parameter(const ParameterInfo& info, const Parameter& parameter) override { parameters[info.name] = &parameter; }
};

class Rebuilder : public Visitor {
 public:
  Rebuilder(const Source& source, const std::function<Slice(const ParameterInfo&)>& origin)
      : source_(source), origin_(origin) {}

  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    check_stop();
    const Slice slice = origin_(info);
    const Weight& old = *source_.weights.at(slice.from);
    if (!old.trainable())
      throw usage_error("'{}' is a {} {} weight; change the model's shape before it is quantized", slice.from,
                        old.form(), old.element());
    const Tensor value = slice_of(old.to_dense(), slice);
    require(info.name, value.shape(), {weight->rows(), weight->cols()});
    weight = std::make_shared<DenseWeight>(value, slice_of(old.mask(), slice));
  }

  void parameter(const ParameterInfo& info, Parameter& parameter) override {
    const Slice slice = origin_(info);
    const Tensor value = slice_of(source_.parameters.at(slice.from)->value, slice);
    require(info.name, value.shape(), parameter.value.shape());
    parameter.value = value;
    ++parameter.version;
  }

 private:
  static void require(const std::string& name, const Shape& made, const Shape& needed) {
    if (made != needed) throw internal_error("'{}' becomes {} instead of {}", name, to_string(made), to_string(needed));
  }

  const Source& source_;
  const std::function<Slice(const ParameterInfo&)>& origin_;
};

std::vector<int64_t> numbers(int64_t count) {
  std::vector<int64_t> all(static_cast<size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

std::vector<int64_t> or_all(const std::vector<int64_t>& some, int64_t count) {
  return some.empty() ? numbers(count) : some;
}

int64_t count(const std::vector<int64_t>& list) {
  return static_cast<int64_t>(list.size());
}

// Appends base + i * width … base + i * width + width - 1 for each i.
void append_ranges(std::vector<int64_t>& to, const std::vector<int64_t>& which, int64_t width, int64_t base = 0) {
  for (const int64_t i : which)
    for (int64_t j = 0; j < width; ++j) to.push_back(base + i * width + j);
}

// From parameters of what stays to those that they were.
class Origins {
 public:
  Origins(const Config& old, const std::vector<KeptLayer>& layers) : old_(old), layers_(layers) {}

  Slice operator()(const ParameterInfo& info) const {
    if (info.layer < 0) return {info.name, {}, {}};
    const KeptLayer& kept = layers_[static_cast<size_t>(info.layer)];
    Slice slice{old_name(info, kept), {}, {}};
    const bool bias = info.role == Role::bias;
    switch (info.of) {
      case Role::qkv:
        slice.rows = qkv_rows(kept);
        break;
      case Role::attention_output:
      case Role::mixer_output:
        if (!bias) append_ranges(slice.cols, kept.heads, old_.block.head_dim);
        break;
      case Role::mixer_input:
      case Role::mixer_array:
        slice.rows = rows_of_heads(kept, info.parts);
        break;
      case Role::up:
        slice.rows = unit_rows(units_of(info, kept), info);
        break;
      case Role::down:
        if (!bias) slice.cols = units_of(info, kept);
        break;
      case Role::router:
      case Role::router_bias:
        slice.rows = kept.experts;
        break;
      default:
        break;
    }
    return slice;
  }

 private:
  static std::string old_name(const ParameterInfo& info, const KeptLayer& kept) {
    const std::string now = Transformer::place_of_block(info.layer).name;
    const std::string name = info.expert < 0
                                 ? info.name
                                 : info.name_of_expert(std::to_string(kept.experts[static_cast<size_t>(info.expert)]));
    return Transformer::place_of_block(kept.from).name + name.substr(now.size());
  }

  static const KeptUnits& units_of(const ParameterInfo& info, const KeptLayer& kept) {
    if (info.shared) return kept.units.back();
    return kept.units[static_cast<size_t>(std::max<int64_t>(info.expert, 0))];
  }

  std::vector<int64_t> qkv_rows(const KeptLayer& kept) const {
    const LayerBlueprint& layer = old_.layers[static_cast<size_t>(kept.from)];
    const int64_t width = old_.block.head_dim;
    std::vector<int64_t> rows;
    append_ranges(rows, kept.heads, width);
    append_ranges(rows, kept.kv_heads, width, layer.heads * width);
    append_ranges(rows, kept.kv_heads, width, (layer.heads + layer.kv_heads) * width);
    return rows;
  }

  // Of a mixer without queries: `parts` are the rows of what stays.
  std::vector<int64_t> rows_of_heads(const KeptLayer& kept, const std::vector<int64_t>& parts) const {
    const int64_t before = old_.layers[static_cast<size_t>(kept.from)].heads;
    std::vector<int64_t> rows;
    int64_t base = 0;
    for (const int64_t part : parts) {
      const int64_t width = part / count(kept.heads);
      append_ranges(rows, kept.heads, width, base);
      base += width * before;
    }
    return rows;
  }

  std::vector<int64_t> unit_rows(const KeptUnits& units, const ParameterInfo& info) const {
    std::vector<int64_t> rows = units;
    if (!info.gated) return rows;
    const LayerBlueprint& layer = old_.layers[static_cast<size_t>(layers_[static_cast<size_t>(info.layer)].from)];
    append_ranges(rows, units, 1, layer.ffn * (info.shared ? layer.shared_experts : 1));
    return rows;
  }

  const Config& old_;
  const std::vector<KeptLayer>& layers_;
};

}  // namespace

Tensor slice_of(const Tensor& matrix, const Slice& slice) {
  if (slice.rows.empty() && slice.cols.empty()) return matrix.clone();
  const bool vector = matrix.shape().size() == 1;
  const int64_t width = vector ? 1 : matrix.dim(1);
  const std::vector<int64_t> rows = or_all(slice.rows, matrix.dim(0)), cols = or_all(slice.cols, width);
  const Tensor part = Tensor::empty(vector ? Shape{count(rows)} : Shape{count(rows), count(cols)});
  float* to = part.data<float>();
  for (const int64_t r : rows)
    for (const int64_t c : cols) *to++ = matrix.data<float>()[r * width + c];
  return part;
}

Bitmask slice_of(const Bitmask& mask, const Slice& slice) {
  if (!mask) return {};
  const std::vector<int64_t> rows = or_all(slice.rows, mask.rows()), cols = or_all(slice.cols, mask.cols());
  const Bitmask part = Bitmask::zeros(count(rows), count(cols));
  for (int64_t r = 0; r < part.rows(); ++r)
    for (int64_t c = 0; c < part.cols(); ++c)
      if (mask.at(rows[static_cast<size_t>(r)], cols[static_cast<size_t>(c)])) part.set(r, c);
  return part;
}

std::unique_ptr<Transformer> rebuild(const Transformer& from, const Config& config,
                                     const std::function<Slice(const ParameterInfo& info)>& origin) {
  Source source;
  from.visit(source);
  auto model = std::make_unique<Transformer>(config);
  Rebuilder rebuilder(source, origin);
  model->visit(rebuilder);
  return model;
}

std::vector<KeptLayer> whole_layers(const Config& config) {
  std::vector<KeptLayer> layers;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const LayerBlueprint& l = config.layers[i];
    KeptLayer kept{static_cast<int64_t>(i), numbers(l.heads), numbers(l.kv_heads), numbers(l.experts), {}};
    if (l.feeds()) kept.units.assign(static_cast<size_t>(std::max<int64_t>(l.experts, 1)), numbers(l.ffn));
    if (l.shared_experts > 0) kept.units.push_back(numbers(l.ffn * l.shared_experts));
    layers.push_back(std::move(kept));
  }
  return layers;
}

Config kept_config(const Config& config, const std::vector<KeptLayer>& layers) {
  Config result = config;
  result.layers.clear();
  for (const KeptLayer& kept : layers) {
    LayerBlueprint layer = config.layers[static_cast<size_t>(kept.from)];
    const bool fewer = !kept.heads.empty() && count(kept.heads) != layer.heads;
    if (fewer && layer.qk_norm_whole)
      throw usage_error("layer {}: a norm is over all of its {} heads, so that none can go alone", kept.from,
                        layer.heads);
    if (fewer && score_by_head(layer.score))
      throw usage_error("layer {}: '{}' gives each of its {} heads a score of its own, so that none can go alone",
                        kept.from, layer.score, layer.heads);
    layer.heads = count(kept.heads);
    layer.kv_heads = count(kept.kv_heads);
    layer.ffn = kept.units.empty() ? 0 : count(kept.units.front());
    layer.experts = layer.feeds() ? count(kept.experts) : 0;
    if (layer.experts == 0) {
      layer.top_k = layer.shared_experts = 0;
      layer.normalized_gates = true;
      layer.shared_gate = false;
    }
    result.layers.push_back(layer);
  }
  result.layers.back().exit = false;  // what is the last now is read through the last norm
  check(result);
  return result;
}

std::unique_ptr<Transformer> keep_layers(const Transformer& model, const std::vector<KeptLayer>& layers) {
  return rebuild(model, kept_config(model.config(), layers), Origins(model.config(), layers));
}

}  // namespace hone
