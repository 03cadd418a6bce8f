// Multi-head attention with grouped keys and values (Ainslie et al., arXiv 2305.13245).
#pragma once

#include "nn/attention/pattern.h"
#include "nn/attention/score.h"
#include "nn/linear.h"
#include "nn/mixer.h"

namespace hone {

class Attention : public Mixer {
 public:
  // Of several ranks each has some of the heads, and the keys and values that those read.
  Attention(const BlockBlueprint& blueprint, const LayerBlueprint& layer, const Share& share = {});

  Var forward(const Var& x, const Call& call, int64_t layer, LayerState* state) const override;
  void remember(const Var& x, const Call& call, int64_t layer, LayerState* state) const override;
  std::unique_ptr<LayerState> make_state(const StateShape& shape) const override;
  void configure(const LayerBlueprint& layer) override;
  void visit(const Place& at, Visitor& visitor) override;
  const char* place() const override { return "attention"; }
  bool causal() const override { return pattern_->rule().causal; }
  bool sees_together() const override { return pattern_->sees_together(); }
  double flops(int64_t position) const override;
  double state_bytes_read(int64_t position, DType type, kernels::CacheCode code) const override;
  double state_bytes(const StateShape& shape) const override;
  MixerArrays training_arrays() const override;

 protected:
  std::shared_ptr<const AttentionPattern> pattern_;  // of the layer's blueprint; never null

 private:
  // Queries, keys and values as they meet: projected, normed and turned.
  Var project(const Var& x, const Call& call, int64_t layer) const;
  // Of the spans of a group.
  kernels::AttentionDims dims_of(const Batch::Group& group) const;

  int64_t heads_, kv_heads_, head_dim_;
  Linear qkv_;     // [(heads + 2 * kv_heads) * head_dim, dim]: queries, then keys, then values
  Linear output_;  // [dim, heads * head_dim]
  // Queries and keys are normed in so many stretches: each head by itself, or all of them together.
  struct Stretches {
    int64_t queries, keys;
  } normed_;
  Norm query_norm_, key_norm_;  // of a stretch; no gain: none
  kernels::ScoreRule score_;
};

}  // namespace hone
