// Each rank has some of the experts of every mixture, and all of what is no expert (nn/mixture.h, ops/expert_ranks.h).
#include <algorithm>

#include "base/error.h"
#include "model/division.h"

namespace hone {
namespace {

void check_experts(const Config& config, int64_t ranks) {
  for (const LayerBlueprint& layer : config.layers) {
    if (layer.experts % ranks != 0)
      throw usage_error("{} ranks of an expert group do not divide {} experts", ranks, layer.experts);
    // A router that fails on one rank, or lets none of its tokens through, would leave the others waiting.
    if (layer.depth_fraction > 0)
      throw usage_error("expert:{} does not go with routers of depth; share the batches instead: data:{}", ranks,
                        ranks);
  }
}

void require_experts(const Config& config, int64_t ranks) {
  if (std::ranges::none_of(config.layers, [](const LayerBlueprint& layer) { return layer.experts > 0; }))
    throw usage_error(
        "expert:{} divides experts, and the model is dense; leave it out, or share its matrices: tensor:{}", ranks,
        ranks);
}

}  // namespace

DivisionKind expert_division() {
  return {.name = "expert",
          .what = "the experts of mixtures",
          .share = &Shares::experts,
          .own_batches = true,
          .elementwise = false,
          .refuses = {{TrainingWish::pruning, "ranks the weights of all experts"},
                      {TrainingWish::rounding, "rounds all experts"},
                      // Others would wait for a rank whose sequences all pass the layer by.
                      {TrainingWish::layer_dropout, "leaves layers without tokens for their experts"},
                      {TrainingWish::eight_bits, "rounds gradients by their places among all tokens of experts"}},
          .check = check_experts,
          .require_any = require_experts,
          .shape_of_one = nullptr};
}

}  // namespace hone
