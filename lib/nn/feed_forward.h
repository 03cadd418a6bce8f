// The feed-forward half of a block: SwiGLU, or GELU between two linear layers.
#pragma once

#include "nn/linear.h"

namespace hone {

struct FeedForward {
  ActivationKind activation = ActivationKind::swiglu;
  Linear up;    // SwiGLU: gates and values in one, [2 * ffn, dim]; GELU: [ffn, dim]
  Linear down;  // [dim, ffn]

  static FeedForward make(const BlockBlueprint& blueprint, const LayerBlueprint& layer);
  Var forward(const Var& x);
  void visit(const std::string& prefix, Visitor& visitor);
};

}  // namespace hone
