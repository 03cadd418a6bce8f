#include "compress/prune.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/stop.h"
#include "compress/masks.h"
#include "weights/dense_weight.h"

namespace hone {
namespace {

double sum_of(const Tensor& scores, const Bitmask& mask) {
  const Tensor kept = mask ? expand_mask(mask) : Tensor();
  double sum = 0;
  for (int64_t i = 0; i < scores.size(); ++i)
    if (!kept || kept.data<uint8_t>()[i]) sum += static_cast<double>(scores.data<float>()[i]);
  return sum;
}

PrunedLayer prune_weight(const std::string& name, std::shared_ptr<Weight>& slot, const PruneSettings& s,
                         const ColumnMoments* moments) {
  check_stop();
  const Tensor dense = slot->to_dense();
  const Bitmask before = slot->mask();
  const bool data_free = moments && !moments->sufficient(dense.dim(1));
  std::vector<float> norms;
  if (data_free)
    norms.assign(static_cast<size_t>(dense.dim(1)), 1.0f);
  else if (moments)
    norms = moments->norms();
  const Tensor scores = pruning_scores(*s.method, dense, norms, name);
  check_stop();
  const Bitmask mask = select_mask(scores, *s.pattern, s.sparsity, s.method->comparison, name, before);
  check_stop();
  PrunedLayer layer{name, dense.dim(0), dense.dim(1), before ? before.sparsity() : 0, mask.sparsity(),
                    1,    {},           data_free};
  if (moments) layer.calibration_tokens = moments->tokens;
  const double all = sum_of(scores, {});
  if (all > 0) layer.score_kept = sum_of(scores, mask) / all;
  slot = std::make_shared<DenseWeight>(dense, mask);
  return layer;
}

}  // namespace

std::vector<std::string> weights_to_prune(Transformer& model, const PruneSettings& s) {
  std::vector<std::string> chosen, all;
  for (const WeightSlot& slot : weight_slots(model)) {
    all.push_back(slot.name);
    if (!s.rule.chosen(slot.name)) continue;
    chosen.push_back(slot.name);
    Weight& weight = **slot.weight;
    if (!weight.parameter())
      throw usage_error("'{}' is a {} {} weight; prune the model before it is quantized", slot.name, weight.form(),
                        weight.element());
    s.pattern->check_shape(weight.rows(), weight.cols(), s.sparsity, slot.name);
  }
  if (chosen.empty())
    throw usage_error("--targets and --keep leave no weight to prune; the model has {}", fmt::join(all, ", "));
  return chosen;
}

std::vector<PrunedLayer> prune_model(Transformer& model, const PruneSettings& s) {
  weights_to_prune(model, s);
  const std::vector<WeightSlot> slots = weight_slots(model);
  std::map<std::string, std::shared_ptr<Weight>*> by_name;
  for (const WeightSlot& slot : slots) by_name[slot.name] = slot.weight;
  std::vector<PrunedLayer> layers;
  calibrate(
      model, s.method->needs_calibration ? s.calibration : nullptr, s.type,
      [&](const std::vector<std::string>& names, const Moments& moments) {
        for (const std::string& name : names) {
          if (!s.rule.chosen(name)) continue;
          const auto found = moments.find(name);
          layers.push_back(prune_weight(name, *by_name.at(name), s, found == moments.end() ? nullptr : &found->second));
        }
      },
      s.progress);
  return layers;
}

}  // namespace hone
