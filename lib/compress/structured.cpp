#include "compress/structured.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/stop.h"
#include "compress/reference.h"
#include "compress/structured_experts.h"
#include "compress/targets.h"
#include "compress/units.h"
#include "model/rebuild.h"
#include "weights/dense_weight.h"

namespace hone {
namespace {

constexpr int64_t divergence_windows = 16;  // of the text, for each layer that may go

double block_parameters(const Transformer& model) {
  struct Counter : Reader {
    double elements = 0;
    void weight(const ParameterInfo& info, const Weight& weight) override {
      if (info.layer >= 0) elements += static_cast<double>(weight.rows() * weight.cols());
    }
    void parameter(const ParameterInfo&, const Parameter&) override {}
  } counter;
  model.visit(counter);
  return counter.elements;
}

// A linear layer with its names and bias: what is refitted.
struct Projection {
  std::string name;
  std::shared_ptr<Weight>* weight = nullptr;
  Parameter* bias = nullptr;
  Role role = Role::down;
  int64_t layer = 0, expert = -1;
  bool shared = false;
};

std::vector<Projection> projections(Transformer& model) {
  struct Collector : Visitor {
    std::vector<Projection> found;
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (ends_branch(info.role))
        found.push_back({info.name, &weight, nullptr, info.role, info.layer, info.expert, info.shared});
    }
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      // A bias is shown right behind its matrix.
      if (info.role == Role::bias && ends_branch(info.of)) found.back().bias = &parameter;
    }
  } collector;
  model.visit(collector);
  return collector.found;
}

// Whole layers and halves by divergence: takes them out of the model for a while.
class Thinner {
 public:
  Thinner(Transformer& model, const StructureSettings& s, StructuredModel& result)
      : model_(model),
        s_(s),
        result_(result),
        reference_(model, *s.calibration, s.type, divergence_windows),
        kept_(whole_layers(model.config())) {}

  void run() {
    take(s_.counts.layers, "layer", true, true);
    take(s_.counts.attentions, "attention half", true, false);
    take(s_.counts.feed_forwards, "feed-forward half", false, true);
  }

  // Of what stays.
  std::vector<KeptLayer> kept() const {
    std::vector<KeptLayer> layers;
    for (const KeptLayer& layer : kept_)
      if (!layer.heads.empty() || !layer.units.empty()) layers.push_back(layer);
    return layers;
  }

 private:
  bool there(size_t i, bool attention, bool feed_forward) const {
    const bool mixes = !kept_[i].heads.empty(), feeds = !kept_[i].units.empty();
    return attention && feed_forward ? mixes || feeds : attention ? mixes : feeds;
  }

  double without(size_t i, bool attention, bool feed_forward) {
    Block& block = model_.blocks()[i];
    std::unique_ptr<Mixer> mixer;
    std::unique_ptr<FeedForward> feed;
    if (attention) mixer = std::move(block.mixer);
    if (feed_forward) feed = std::move(block.feed_forward);
    const auto put_back = [&] {
      if (attention) block.mixer = std::move(mixer);
      if (feed_forward) block.feed_forward = std::move(feed);
    };
    try {
      const double kl = reference_.distance(model_).kl;
      put_back();
      return kl;
    } catch (...) {
      put_back();
      throw;
    }
  }

  void take(int64_t count, const std::string& what, bool attention, bool feed_forward) {
    for (int64_t n = 0; n < count; ++n) {
      double least = 0;
      size_t best = kept_.size();
      for (size_t i = 0; i < kept_.size(); ++i) {
        if (!there(i, attention, feed_forward)) continue;
        const double kl = without(i, attention, feed_forward);
        if (best < kept_.size() && !(kl < least)) continue;
        least = kl;
        best = i;
      }
      if (best == kept_.size()) throw internal_error("no {} is left to be removed", what);
      if (attention) {
        model_.blocks()[best].mixer = nullptr;
        kept_[best].heads.clear();
        kept_[best].kv_heads.clear();
      }
      if (feed_forward) {
        model_.blocks()[best].feed_forward = nullptr;
        kept_[best].units.clear();
        kept_[best].experts.clear();
      }
      result_.layers[best].kl = least;
      if (s_.progress) s_.progress(what, n + 1, count);
    }
  }

  Transformer& model_;
  const StructureSettings& s_;
  StructuredModel& result_;
  Reference reference_;
  std::vector<KeptLayer> kept_;
};

// Heads and hidden units: chosen and refitted in place, at full width with zeros in what goes.
class Narrower {
 public:
  Narrower(Transformer& model, const StructureSettings& s, std::span<const int64_t> from, StructuredModel& result)
      : model_(model), s_(s), from_(from), result_(result), kept_(whole_layers(model.config())) {}

  std::vector<KeptLayer> run() {
    std::vector<CalibrationTarget> targets;
    std::vector<Projection> chosen;
    for (const Projection& p : projections(model_)) {
      if (count_of(p) == 0) continue;
      targets.push_back({p.name, moment_needs(p.bias != nullptr)});
      chosen.push_back(p);
    }
    if (chosen.empty()) return kept_;
    calibrate(
        model_, targets, MeasuredBehind::layers, s_.calibration, s_.type,
        [&](size_t i, const Measurement& measured) { change(chosen[i], measured); },
        [&](int64_t done, int64_t all) {
          if (s_.progress) s_.progress("heads and neurons of layer", done, all);
        });
    return kept_;
  }

 private:
  const LayerBlueprint& layer_of(const Projection& p) const {
    return model_.config().layers[static_cast<size_t>(p.layer)];
  }

  int64_t count_of(const Projection& p) const {
    const auto old = static_cast<size_t>(from_[static_cast<size_t>(p.layer)]);
    if (p.role == Role::attention_output) return s_.counts.heads[old];
    return s_.counts.units[old] * (p.shared ? layer_of(p).shared_experts : 1);
  }

  void change(const Projection& p, const Measurement& measured) {
    check_stop();
    const Tensor before = (*p.weight)->to_dense();
    const Bitmask mask = (*p.weight)->mask();
    const InputMoments moments = moments_of(measured.inputs, before.dim(1), p.bias != nullptr, p.name);
    const bool attention = p.role == Role::attention_output;
    const int64_t width = attention ? model_.config().block.head_dim : 1;
    const UnitChoice choice =
        attention ? heads(before, moments, layer_of(p), count_of(p)) : choose_units(before, moments, 1, count_of(p));
    std::vector<int64_t> columns;
    for (const int64_t unit : choice.kept)
      for (int64_t c = 0; c < width; ++c) columns.push_back(unit * width + c);
    const Tensor after = refit_columns(before, mask, moments, columns);
    if (p.bias) {
      const Tensor gain = bias_gain(before, after, moments);
      const Tensor bias = p.bias->value.clone();
      for (int64_t i = 0; i < bias.size(); ++i) bias.data<float>()[i] += gain.data<float>()[i];
      p.bias->value = bias;
      ++p.bias->version;
    }
    *p.weight = std::make_shared<DenseWeight>(after, mask);
    note(p, choice, measured);
  }

  // Whole groups, or equally many of each: whichever costs less, where both can be.
  static UnitChoice heads(const Tensor& weight, const InputMoments& moments, const LayerBlueprint& layer,
                          int64_t count) {
    const int64_t in_group = layer.heads / layer.kv_heads, width = weight.dim(1) / layer.heads;
    std::optional<UnitChoice> best;
    if (count % in_group == 0 && count / in_group < layer.kv_heads) {
      UnitChoice groups = choose_units(weight, moments, width * in_group, count / in_group);
      std::vector<int64_t> kept;
      for (const int64_t g : groups.kept)
        for (int64_t h = 0; h < in_group; ++h) kept.push_back(g * in_group + h);
      best = {kept, groups.error};
    }
    if (in_group > 1 && count % layer.kv_heads == 0 && count / layer.kv_heads < in_group) {
      std::vector<int64_t> group;
      for (int64_t h = 0; h < layer.heads; ++h) group.push_back(h / in_group);
      UnitChoice each = choose_units(weight, moments, width, count, group, count / layer.kv_heads);
      if (!best || each.error < best->error) best = each;
    }
    if (!best) throw internal_error("{} of {} heads cannot go", count, layer.heads);
    return *best;
  }

  void note(const Projection& p, const UnitChoice& choice, const Measurement& measured) {
    KeptLayer& kept = kept_[static_cast<size_t>(p.layer)];
    StructuredLayer& report = result_.layers[static_cast<size_t>(from_[static_cast<size_t>(p.layer)])];
    if (p.role == Role::attention_output) {
      const int64_t in_group = layer_of(p).heads / layer_of(p).kv_heads;
      kept.heads = choice.kept;
      kept.kv_heads.clear();
      for (const int64_t h : choice.kept)
        if (kept.kv_heads.empty() || kept.kv_heads.back() != h / in_group) kept.kv_heads.push_back(h / in_group);
      report.head_error = choice.error;
      return;
    }
    (p.shared ? kept.units.back() : kept.units[static_cast<size_t>(std::max<int64_t>(p.expert, 0))]) = choice.kept;
    report.unit_error = std::max(report.unit_error.value_or(0), choice.error);
    if (measured.tokens)
      report.calibration_tokens = std::min(report.calibration_tokens.value_or(*measured.tokens), *measured.tokens);
    report.data_free = report.data_free || measured.data_free;
  }

  Transformer& model_;
  const StructureSettings& s_;
  std::span<const int64_t> from_;
  StructuredModel& result_;
  std::vector<KeptLayer> kept_;
};

}  // namespace

void require_unquantized(const Transformer& model) {
  struct Checker : Reader {
    void weight(const ParameterInfo& info, const Weight& weight) override {
      if (!weight.trainable())
        throw usage_error("'{}' is a {} {} weight; prune the model before it is quantized", info.name, weight.form(),
                          weight.element());
    }
    void parameter(const ParameterInfo&, const Parameter&) override {}
  } checker;
  model.visit(checker);
}

StructuredModel prune_structures(Transformer& model, const StructureSettings& s) {
  if (!s.calibration)
    throw usage_error("structured pruning measures what enters each layer and needs a calibration text");
  require_unquantized(model);
  StructuredModel result;
  const double before = block_parameters(model);
  std::vector<int64_t> from;  // layers of the model as it is, in the old one
  for (const LayerBlueprint& layer : model.config().layers) {
    LayerBlueprint none = layer;
    none.heads = none.kv_heads = none.ffn = none.experts = 0;
    from.push_back(static_cast<int64_t>(from.size()));
    result.layers.push_back({from.back(), layer, none, {}, {}, {}, {}, false});
  }
  std::unique_ptr<Transformer> thin;
  Transformer* now = &model;
  if (s.counts.layers + s.counts.attentions + s.counts.feed_forwards > 0) {
    Thinner thinner(model, s, result);
    thinner.run();
    const std::vector<KeptLayer> kept = thinner.kept();
    from.clear();
    for (const KeptLayer& layer : kept) from.push_back(layer.from);
    thin = keep_layers(model, kept);
    now = thin.get();
  }
  std::vector<int64_t> experts;
  for (const int64_t layer : from) experts.push_back(s.counts.experts[static_cast<size_t>(layer)]);
  if (std::any_of(experts.begin(), experts.end(), [](int64_t n) { return n > 0; })) {
    thin = keep_layers(*now, choose_experts(*now, experts, *s.calibration, s.type));
    now = thin.get();
  }
  result.model = keep_layers(*now, Narrower(*now, s, from, result).run());
  for (size_t i = 0; i < from.size(); ++i)
    result.layers[static_cast<size_t>(from[i])].after = result.model->config().layers[i];
  result.block_parameters_removed = 1 - block_parameters(*result.model) / before;
  return result;
}

}  // namespace hone
