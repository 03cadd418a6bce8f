#include "model/part.h"

#include <algorithm>

#include "base/error.h"
#include "base/spelling.h"
#include "media/medium.h"

namespace hone {

void check_parts(const Config& config, int64_t ranks) {
  if (ranks == 1) return;
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

void check_expert_parts(const Config& config, int64_t ranks) {
  if (ranks == 1) return;
  for (const LayerBlueprint& layer : config.layers) {
    if (layer.experts % ranks != 0)
      throw usage_error("{} ranks of an expert group do not divide {} experts", ranks, layer.experts);
    // A router that fails on one rank, or lets none of its tokens through, would leave the others waiting.
    if (layer.depth_fraction > 0)
      throw usage_error("expert:{} does not go with routers of depth; share the batches instead: data:{}", ranks,
                        ranks);
  }
}

Config part_of(Config config, int64_t ranks) {
  for (LayerBlueprint& layer : config.layers) {
    layer.heads /= ranks;
    layer.kv_heads /= ranks;
    layer.ffn /= ranks;
  }
  config.padded_vocabulary /= ranks;
  config.vocabulary = std::min(config.vocabulary, config.padded_vocabulary);
  return config;
}

}  // namespace hone
