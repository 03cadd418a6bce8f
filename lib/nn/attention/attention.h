// Multi-head attention with grouped keys and values (Ainslie et al., arXiv 2305.13245).
#pragma once

#include "nn/attention/pattern.h"
#include "nn/forward.h"
#include "nn/linear.h"

namespace hone {

struct Attention {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  PositionKind positions = PositionKind::rotary;
  std::shared_ptr<const AttentionPattern> pattern;
  Linear qkv;     // [(heads + 2 * kv_heads) * head_dim, dim]: queries, then keys, then values
  Linear output;  // [dim, heads * head_dim]

  static Attention make(const BlockBlueprint& blueprint, const LayerBlueprint& layer);
  // x [batch * length, dim]; `cache` is this layer's, or null. With a cache, the new keys and values are appended to
  // it.
  Var forward(const Var& x, Forward& call, LayerCache* cache);
  void visit(const std::string& prefix, Visitor& visitor);
};

}  // namespace hone
