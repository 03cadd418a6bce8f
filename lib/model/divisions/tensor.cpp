// Each rank has a part of every matrix: some heads, some hidden numbers and some tokens of the vocabulary (nn/linear.h,
// ops/ranks.h).
#include <algorithm>

#include "base/error.h"
#include "base/spelling.h"
#include "media/medium.h"
#include "model/division.h"

namespace hone {
namespace {

void check_matrices(const Config& config, int64_t ranks) {
  const auto divides = [ranks](int64_t whole, const char* what) {
    if (whole % ranks != 0) throw usage_error("{} ranks of a tensor group do not divide {} {}", ranks, whole, what);
  };
  for (const LayerBlueprint& layer : config.layers) {
    if (layer.experts > 0)
      throw usage_error("tensor:{} divides no matrices of experts; give each rank some of them: expert:{}", ranks,
                        ranks);
    if (layer.mixes() && layer.qk_norm_whole)
      throw usage_error(
          "tensor:{} divides no layers whose norm of queries and keys is over all heads (qk_norm_whole); "
          "share the batches instead: data:{}",
          ranks, ranks);
    divides(layer.heads, "heads");
    divides(layer.kv_heads, "key/value heads");
    divides(layer.ffn, "hidden rows of the feed-forward");
  }
  if (!config.encoders.empty())
    throw usage_error("tensor:{} divides no model with encoders of {}; share the batches instead: data:{}", ranks,
                      either_of(media_words(&Medium::plural)), ranks);
  divides(config.padded_vocabulary, "tokens of the vocabulary");
}

Config part_of_matrices(Config config, int64_t ranks) {
  for (LayerBlueprint& layer : config.layers) {
    layer.heads /= ranks;
    layer.kv_heads /= ranks;
    layer.ffn /= ranks;
  }
  config.padded_vocabulary /= ranks;
  config.vocabulary = std::min(config.vocabulary, config.padded_vocabulary);
  return config;
}

}  // namespace

DivisionKind tensor_division() {
  return {.name = "tensor",
          .what = "each matrix",
          .share = &Shares::matrices,
          .own_batches = false,
          .elementwise = true,
          .refuses = {{TrainingWish::pruning, "ranks the weights of whole matrices"},
                      {TrainingWish::rounding, "rounds whole matrices"},
                      {TrainingWish::teacher_cache, "keeps whole rows of predictions"},
                      {TrainingWish::experts, "sends tokens to whole matrices"}},
          .check = check_matrices,
          .require_any = nullptr,
          .shape_of_one = part_of_matrices};
}

}  // namespace hone
