// Blocks with more outliers are pruned less (Yin et al., arXiv 2310.05175): what is far above the mean of |w| ||x|| is
// little and carries much.
#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "base/error.h"
#include "base/stop.h"
#include "compress/allocation.h"

namespace hone {
namespace {

// An outlier's |w| ||x|| is more than so many times its block's mean, and sparsities lie at most twice so far apart
// (the paper's M and lambda; section 4.1 there).
constexpr double outlier = 5, most_apart = 0.08;

// Of each weight the name of its block; of what is in no block, its own.
std::map<std::string, std::string> blocks_of(const Transformer& model) {
  std::map<std::string, std::string> blocks;
  for (const NamedWeight& weight : named_weights(model))
    blocks[weight.name] = weight.layer < 0 ? weight.name : Transformer::place_of_block(weight.layer).name;
  return blocks;
}

struct BlockOfWeights {
  std::vector<std::pair<std::shared_ptr<Weight>, std::vector<float>>> weights;  // with the norms of their inputs
  double elements = 0, outliers = 0;                                            // outliers: the part that is

  template <class F>
  void each_score(F&& f) const {
    for (const auto& [weight, norms] : weights) {
      const Tensor dense = weight->to_dense();
      const auto cols = static_cast<int64_t>(norms.size());
      for (int64_t i = 0; i < dense.size(); ++i)
        f(static_cast<double>(std::fabs(dense.data<float>()[i]) * norms[static_cast<size_t>(i % cols)]));
    }
  }

  void count(const std::string& name) {
    double sum = 0;
    each_score([&](double score) { sum += score, ++elements; });
    const double border = outlier * sum / elements;
    if (!std::isfinite(border))
      throw input_error(
          "{}: weights or what enters them are not finite numbers; the calibration run has overflowed "
          "or the model is damaged",
          name);
    each_score([&](double score) { outliers += score > border; });
    outliers /= elements;
  }
};

std::map<std::string, BlockOfWeights> count_outliers(Transformer& model, const PruneSettings& s,
                                                     const std::vector<std::string>& names,
                                                     const std::map<std::string, std::string>& block_of) {
  const std::vector<WeightSlot> slots = weight_slots(model, names);
  std::vector<CalibrationTarget> targets;
  for (const std::string& name : names) targets.push_back({name, {StatisticKind::of<ColumnSquares>()}});
  std::map<std::string, BlockOfWeights> blocks;
  calibrate(
      model, targets, MeasuredBehind::blocks, s.calibration, s.type,
      [&](size_t i, const Measurement& measured) {
        const std::shared_ptr<Weight>& weight = *slots[i].weight;
        blocks[block_of.at(names[i])].weights.emplace_back(
            weight, measured.inputs ? measured.inputs->get<ColumnSquares>().norms()
                                    : std::vector<float>(static_cast<size_t>(weight->cols()), 1.0f));
      },
      s.progress);
  for (auto& [name, block] : blocks) {
    check_stop();
    block.count(name);
  }
  return blocks;
}

Allotted owl(Transformer& model, const PruneSettings& s) {
  const std::vector<std::string> names = weights_to_prune(model, s);
  const std::map<std::string, std::string> block_of = blocks_of(model);
  const std::map<std::string, BlockOfWeights> blocks = count_outliers(model, s, names, block_of);
  double least = 1, most = 0;
  for (const auto& [name, block] : blocks) {
    least = std::min(least, block.outliers);
    most = std::max(most, block.outliers);
  }
  // From -1 for most outliers to 1 for fewest, so wide that no sparsity leaves [0, 1), and all less their mean.
  const double reach = std::min({most_apart, s.sparsity / 2, 0.45 * (1 - s.sparsity)});
  const auto offset = [&](const BlockOfWeights& b) {
    return most > least ? reach * (1 - 2 * (b.outliers - least) / (most - least)) : 0.0;
  };
  double sum = 0, all = 0;
  for (const auto& [name, block] : blocks) sum += block.elements * offset(block), all += block.elements;
  Allotted result;
  for (const std::string& name : names)
    result.sparsities.push_back({name, std::max(0.0, s.sparsity + offset(blocks.at(block_of.at(name))) - sum / all)});
  return result;
}

}  // namespace

Allocation owl_allocation() {
  return {"owl", "blocks with more outliers among |weight| x norm of its input are pruned less", true, owl};
}

}  // namespace hone
