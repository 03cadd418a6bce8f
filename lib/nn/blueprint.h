// What a block is built from: data, so that layers may differ and pruned models are ordinary ones.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/attention/score.h"
#include "kernels/routing/routing.h"
#include "nn/activation.h"
#include "nn/norm_kind.h"
#include "nn/position_kind.h"

namespace hone {

using kernels::least_softcap;
using kernels::most_softcap;
using kernels::RouterKind;
using kernels::RouterNoise;

// What becomes of the rotary frequencies where a model reads on beyond what it was first trained with.
struct RopeScaling {
  enum class Kind { none, linear, llama3 };
  Kind kind = Kind::none;
  double factor = 1;  // linear: every frequency is divided by it (Chen et al., arXiv 2306.15595)
  // llama3: those whose wave is longer than context / low are divided, those shorter than context / high stay, and
  // between the two it goes over evenly (Dubey et al., arXiv 2407.21783; its published code).
  double low = 1, high = 4;
  int64_t context = 8192;  // tokens that it was first trained with
  bool operator==(const RopeScaling&) const = default;
};

// Which weights rows of each kind of part (text, images, sounds) have of their own (Mixture of Transformers, Liang et
// al., arXiv 2411.04996).
enum class ModalityExperts {
  none,
  ffn,  // those of feed-forwards
  all   // projections and norms, too: attention alone is shared
};

// One layer. Widths may differ from layer to layer, and one of the two halves may be missing.
struct LayerBlueprint {
  int64_t heads = 6;  // 0: no attention, and no key/value heads. Of what takes its place: head_dim channels each
  int64_t kv_heads = 6;
  int64_t ffn = 1024;              // hidden width of the feed-forward, or of each of its experts; 0: no feed-forward
  std::string attention = "full";  // a kind of nn/mixer.h
  // A mixture of experts (Shazeer et al., arXiv 1701.06538) in place of the dense feed-forward.
  int64_t experts = 0;         // 0: dense
  int64_t top_k = 0;           // of them, for each token
  int64_t shared_experts = 0;  // beside them, for every token (DeepSeekMoE, arXiv 2401.06066)
  bool shared_gate = false;    // what these give is weighted by the sigmoid of a score of the token (Qwen2-MoE)
  RouterKind router = RouterKind::softmax;
  // Gates of several chosen experts are divided by their sum; else they are the router's scores as they are (OLMoE,
  // arXiv 2409.02060), as that of one alone always is.
  bool normalized_gates = true;
  // Of a sequence's tokens that go through the layer, above 0 and below 1 (mixture of depths, Raposo et al., arXiv
  // 2404.02258); 0: all, and there is no router.
  double depth_fraction = 0;
  bool exit = false;           // the stream behind it may be read by the head, through a norm of its own
  bool qk_norm = false;        // RMS norms of each head's queries and keys (ops/head_norm.h)
  bool qk_norm_whole = false;  // those norms are of the queries of all heads together, and of their keys
  std::string score = {};  // a kind of kernels/attention/score.h; empty: products times 1 / sqrt(head_dim), as they are
  ModalityExperts modality_experts = ModalityExperts::none;
  std::vector<std::string> modalities = {};  // those beside text, by name in the order of the model's encoders
  // Names of the kinds beside text that have feed-forwards, or everything, of their own.
  std::vector<std::string> own_feed_forwards() const { return modalities; }
  std::vector<std::string> own_projections() const {
    return modality_experts == ModalityExperts::all ? modalities : std::vector<std::string>();
  }
  bool mixes() const { return heads > 0; }
  bool feeds() const { return ffn > 0; }
  bool operator==(const LayerBlueprint&) const = default;
};

// Of a sequence's tokens that go through a layer.
inline double passing_fraction(const LayerBlueprint& layer) {
  return layer.depth_fraction > 0 ? layer.depth_fraction : 1;
}

// What all layers share.
struct BlockBlueprint {
  int64_t dim = 384;
  int64_t head_dim = 64;
  NormKind norm = norm_named("rms_norm");
  float norm_epsilon = 1e-5f;
  ActivationKind activation = activation_named("swiglu");
  PositionKind positions = positions_named("rotary");
  double rope_theta = 10000;
  int64_t rotary_dim = 0;  // numbers of a head that turn: pairs (c, c + head_dim / 2) for c below its half; 0: all
  RopeScaling rope_scaling = {};
  bool biases = false;      // of linear layers and norms
  bool qkv_biases = false;  // of queries, keys and values, also where the others have none
  bool parallel = false;    // both halves of a layer read the stream that enters it (GPT-J, GPT-NeoX)
  bool operator==(const BlockBlueprint&) const = default;
};

}  // namespace hone
