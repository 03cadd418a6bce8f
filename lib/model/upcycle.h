// Turning a dense model into a mixture of experts (Komatsuzaki et al., "Sparse Upcycling", arXiv 2212.05055).
#pragma once

#include "model/transformer.h"

namespace hone {

// What the layers of a mixture have in place of their dense feed-forward.
struct MixtureShape {
  int64_t experts = 8, top_k = 2, shared_experts = 0;
  RouterKind router = RouterKind::softmax;
  std::vector<bool> layers;  // which ones; as many as the model has
  bool shared_gate = false;  // of what the shared experts give
};

// Writes the shape into the configuration's layers; their width stays. Throws Error(usage) where a layer is a mixture
// already or the shape cannot be.
Config with_mixtures(Config config, const MixtureShape& shape);

// A model that computes what `dense` computes, but for the noise. Without shared experts every expert holds the weights
// of the dense feed-forward, each element times 1 + noise * N(0, 1): the gates of the chosen sum to 1; where top_k is 1
// and the gate is the router's score, the experts' output is divided by what an even router gives (1 / experts, or 1/2
// for sigmoid). With shared experts the first of them holds the dense feed-forward itself, and all others hold the same
// but for a down projection of 0: what is routed begins as nothing and learns what the dense part lacks, which every
// token trains on; a gate of theirs begins even, at 1/2, and the first one's down projection doubled. Masks and their
// zeros stay exact. Throws Error(usage) for weights that cannot be trained. Of ranks that divide experts
// (dense.model_ranks()) each makes its own.
std::unique_ptr<Transformer> upcycle(const Transformer& dense, const MixtureShape& shape, double noise, uint64_t seed);

}  // namespace hone
