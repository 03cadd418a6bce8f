#include "compress/structured.h"

#include <algorithm>

#include "base/error.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "weights/dense_weight.h"

namespace hone {
namespace {

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

// Heads and hidden units: chosen and refitted in place, at full width with zeros in what goes.
class Narrower {
 public:
  Narrower(Thinning& thinning, const StructureCounts& counts)
      : thinning_(thinning), model_(*thinning.model), counts_(counts), kept_(whole_layers(model_.config())) {
    std::vector<std::string> names;
    for (const StructureKind& kind : structure_kinds())
      if (kind.columns) names.emplace_back(kind.name);
    of_layers_ = fmt::format("{} of layer", each_of(names));
  }

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
        model_, targets, MeasuredBehind::layers, &thinning_.text, thinning_.type,
        [&](size_t i, const Measurement& measured) { change(chosen[i], measured); },
        [&](int64_t done, int64_t all) {
          if (thinning_.progress) thinning_.progress(of_layers_, done, all);
        });
    return kept_;
  }

 private:
  const LayerBlueprint& layer_of(const Projection& p) const {
    return model_.config().layers[static_cast<size_t>(p.layer)];
  }

  size_t old_layer(const Projection& p) const {
    return static_cast<size_t>(thinning_.from[static_cast<size_t>(p.layer)]);
  }

  // Of the structures that go, the one that is columns of this projection; null: none.
  const StructureKind* kind_of(const Projection& p) const {
    for (const auto& [kind, count] : counts_)
      if (kind->columns && kind->columns->of(p.role)) return kind;
    return nullptr;
  }

  int64_t count_of(const Projection& p) const {
    const StructureKind* kind = kind_of(p);
    return kind ? kind->columns->count(p, layer_of(p), counts_.at(kind)[old_layer(p)]) : 0;
  }

  void change(const Projection& p, const Measurement& measured) {
    check_stop();
    const Tensor before = (*p.weight)->to_dense();
    const Bitmask mask = (*p.weight)->mask();
    const InputMoments moments = moments_of(measured.inputs, before.dim(1), p.bias != nullptr, p.name);
    const ColumnStructure& structure = *kind_of(p)->columns;
    const int64_t width = structure.width(model_.config().block);
    const UnitChoice choice = structure.choose(before, moments, layer_of(p), count_of(p));
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

  void note(const Projection& p, const UnitChoice& choice, const Measurement& measured) {
    const StructureKind& kind = *kind_of(p);
    kind.columns->keep(kept_[static_cast<size_t>(p.layer)], p, layer_of(p), choice);
    StructuredLayer& report = thinning_.layers[old_layer(p)];
    double& error = report.errors[kind.error];
    error = std::max(error, choice.error);
    if (p.role != Role::down) return;
    if (measured.tokens)
      report.calibration_tokens = std::min(report.calibration_tokens.value_or(*measured.tokens), *measured.tokens);
    report.data_free = report.data_free || measured.data_free;
  }

  Thinning& thinning_;
  Transformer& model_;
  const StructureCounts& counts_;
  std::vector<KeptLayer> kept_;
  std::string of_layers_;  // "heads and neurons of layer", for progress
};

}  // namespace

void Thinning::keep(const std::vector<KeptLayer>& some) {
  std::vector<int64_t> now;
  for (const KeptLayer& layer : some) now.push_back(from[static_cast<size_t>(layer.from)]);
  from = std::move(now);
  owned = keep_layers(*model, some);
  model = owned.get();
}

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
  std::vector<int64_t> from;
  for (const LayerBlueprint& layer : model.config().layers) {
    LayerBlueprint none = layer;
    for (const StructureKind& kind : structure_kinds())
      for (const LayerSize& size : kind.sizes) none.*size.of = 0;
    from.push_back(static_cast<int64_t>(from.size()));
    result.layers.push_back({from.back(), layer, none, {}, {}, {}, false});
  }
  Thinning thinning{&model, from, nullptr, result.layers, *s.calibration, s.type, s.progress};
  for (const StructureKind& kind : structure_kinds())
    if (const auto count = s.counts.find(&kind); kind.take && count != s.counts.end())
      kind.take(thinning, count->second);
  thinning.keep(Narrower(thinning, s.counts).run());
  result.model = std::move(thinning.owned);
  for (size_t i = 0; i < thinning.from.size(); ++i)
    result.layers[static_cast<size_t>(thinning.from[i])].after = result.model->config().layers[i];
  result.block_parameters_removed = 1 - block_parameters(*result.model) / before;
  return result;
}

}  // namespace hone
