#include "nn/attention/attention.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "ops/attention.h"

namespace hone {

Attention Attention::make(const BlockBlueprint& blueprint, const LayerBlueprint& layer) {
  Attention a;
  a.heads = layer.heads;
  a.kv_heads = layer.kv_heads;
  a.head_dim = blueprint.head_dim;
  a.positions = blueprint.positions;
  a.pattern = attention_pattern(layer.attention);
  a.qkv = Linear::make((layer.heads + 2 * layer.kv_heads) * blueprint.head_dim, blueprint.dim, blueprint.biases);
  a.output = Linear::make(blueprint.dim, layer.heads * blueprint.head_dim, blueprint.biases);
  return a;
}

namespace {

// Up to this many new tokens are attended one query at a time; more go through the tiles, which pack keys first.
constexpr int64_t decode_queries = 8;

// The rows of one sequence, as sequence 0.
template <class Rows>
Rows of_sequence(const Rows& rows, int64_t sequence) {
  return kernels::starting_at(rows, sequence, 0);
}

// Adds the pairs of a call whose first query stands at `position`.
void count(const Forward& call, const kernels::AttentionDims& dims, const kernels::BlockPlan& plan, int64_t position) {
  if (!call.attention) return;
  const int64_t lists = dims.batch * dims.heads;
  call.attention->visible_pairs += lists / plan.lists * plan.visible_pairs;
  call.attention->causal_pairs += lists * (dims.queries * position + dims.queries * (dims.queries + 1) / 2);
}

// New queries of a call against a cache.
class CachedAttention {
 public:
  CachedAttention(const Tensor& qkv, const Forward& call, const kernels::AttentionDims& dims,
                  const AttentionPattern& pattern, LayerCache& cache)
      : call_(call),
        dims_(dims),
        pattern_(pattern),
        cache_(cache),
        in_(ops::QkvRows::of(qkv, dims)),
        out_(Tensor::empty({call.batch * call.length, dims.heads * dims.head_dim}, qkv.dtype())),
        out_rows_(ops::head_rows(out_, dims)),
        starts_(call.cache->lengths) {}

  Var run() {
    const bool wraps = cache_.wraps(*std::max_element(starts_.begin(), starts_.end()) + call_.length);
    const bool few = call_.length == 1 || (call_.length <= decode_queries && !wraps && !pattern_.need().summary_block);
    if (few && dims_.heads <= 64 * dims_.kv_heads) {
      for (int64_t s = 0; s < call_.batch; ++s) store(s);
      decode(wraps);
      return Var(out_);
    }
    for (int64_t s = 0; s < call_.batch; ++s) {
      kernels::AttentionDims one = dims_;
      one.batch = 1;
      one.query_offset = start(s);
      if (cache_.wraps(start(s) + call_.length)) {
        attend_history(one, s);
        store(s);
      } else {
        store(s);
        one.keys = start(s) + call_.length;
        attend(one, s, cache_.keys(s), cache_.values(s),
               *pattern_.plan({one, of_sequence(in_.q, s), cache_.key_summaries(s)}));
      }
    }
    return Var(out_);
  }

 private:
  int64_t start(int64_t s) const { return starts_[static_cast<size_t>(s)]; }

  void store(int64_t s) { cache_.store(s, start(s), call_.length, of_sequence(in_.k, s), of_sequence(in_.v, s)); }

  void attend(const kernels::AttentionDims& one, int64_t s, kernels::ConstHeadRows k, kernels::ConstHeadRows v,
              const kernels::BlockPlan& plan) {
    kernels::attention_forward(one, of_sequence(in_.q, s), k, v, of_sequence(out_rows_, s), nullptr, plan);
    count(call_, one, plan, start(s));
  }

  // A ring keeps what its next query sees: the first of several would miss what the last ones replace. So they see a
  // copy.
  void attend_history(kernels::AttentionDims one, int64_t s) {
    LayerCache::History history = cache_.history(s, start(s), call_.length);
    const int64_t before = static_cast<int64_t>(history.positions.size()), rows = before + call_.length;
    const auto view = [&](const Tensor& t) {
      return kernels::HeadRows{t.raw(), t.dtype(), 0, dims_.head_dim, rows * dims_.head_dim};
    };
    const kernels::HeadRows k = view(history.keys), v = view(history.values);
    copy_heads(of_sequence(in_.k, s), 0, k, before, call_.length, dims_.kv_heads, dims_.head_dim);
    copy_heads(of_sequence(in_.v, s), 0, v, before, call_.length, dims_.kv_heads, dims_.head_dim);
    for (int64_t p = 0; p < call_.length; ++p) history.positions.push_back(static_cast<int32_t>(start(s) + p));
    one.keys = rows;
    const kernels::MaskRule rule = pattern_.rule();
    const bool gap = history.positions.back() - history.positions.front() + 1 != rows;
    if (gap || rule.sinks > 0) {
      attend(one, s, k, v, *kernels::causal_plan({one.queries, rows, one.query_offset}, rule, history.positions));
    } else {  // only differences of positions matter: as if the first row's were 0, where plans are shared
      one.query_offset = before;
      attend(one, s, k, v, *kernels::causal_plan({one.queries, rows, before}, rule));
    }
  }

  void decode(bool wraps) {
    kernels::DecodeDims d;
    d.batch = dims_.batch;
    d.queries = dims_.queries;
    d.heads = dims_.heads;
    d.kv_heads = dims_.kv_heads;
    d.head_dim = dims_.head_dim;
    d.scale = dims_.scale;
    d.rule = pattern_.rule();
    std::vector<int64_t> lengths;
    for (const int64_t length : starts_) lengths.push_back(std::min(length + call_.length, cache_.rows()));
    d.key_lengths = lengths.data();
    d.query_positions = starts_.data();
    std::vector<int32_t> positions;
    if (wraps) {
      positions.resize(static_cast<size_t>(dims_.batch * cache_.rows()));
      for (int64_t s = 0; s < dims_.batch; ++s)
        cache_.positions(start(s) + call_.length, positions.data() + s * cache_.rows());
      d.key_positions = positions.data();
      d.key_positions_stride = cache_.rows();
    }
    std::vector<int64_t> starts = {0};
    std::vector<kernels::DecodeVisit> visits;
    bool chosen = true;
    for (int64_t s = 0; s < dims_.batch && chosen; ++s) {
      kernels::AttentionDims one = dims_;
      one.batch = 1;
      one.query_offset = start(s);
      chosen = pattern_.visits({one, of_sequence(in_.q, s), cache_.key_summaries(s)}, starts, visits);
    }
    if (chosen) {
      d.visits = visits.data();
      d.visit_starts = starts.data();
    }
    kernels::attention_decode(d, in_.q, cache_.keys(), cache_.values(), out_rows_);
  }

  const Forward& call_;
  const kernels::AttentionDims& dims_;
  const AttentionPattern& pattern_;
  LayerCache& cache_;
  ops::QkvRows in_;
  Tensor out_;
  kernels::HeadRows out_rows_;
  const std::vector<int64_t>& starts_;  // tokens that each sequence has seen
};

// All tokens of each sequence at once.
Var attend_all(const Var& qkv, const Forward& call, const kernels::AttentionDims& dims,
               const AttentionPattern& pattern) {
  const ops::QkvRows in = ops::QkvRows::of(qkv.value(), dims);
  kernels::KeySummaries summaries;
  Tensor room;
  if (const int64_t block = pattern.need().summary_block) {
    const int64_t blocks = (dims.keys + block - 1) / block;
    room = Tensor::empty({dims.batch, dims.kv_heads, blocks, kernels::KeySummaries::rows, dims.head_dim});
    summaries = kernels::KeySummaries::of(room.data<float>(), dims.kv_heads, blocks, dims.head_dim);
    for (int64_t s = 0; s < dims.batch; ++s)
      kernels::summarize_keys(in.k, s, dims.kv_heads, dims.head_dim, 0, dims.keys, block,
                              room.data<float>() + s * summaries.batch_stride, summaries.head_stride);
  }
  std::shared_ptr<const kernels::BlockPlan> plan = pattern.plan({dims, in.q, summaries});
  count(call, dims, *plan, 0);
  return ops::attention(qkv, dims, std::move(plan), call.attention ? &call.attention->backward_seconds : nullptr);
}

}  // namespace

Var Attention::forward(const Var& x, Forward& call, LayerCache* cache) {
  Var projected = qkv.forward(x);
  Var attended;
  {
    const SecondsInto watch(call.attention ? &call.attention->seconds : nullptr);
    if (positions == PositionKind::rotary)
      projected = ops::rope(projected, heads + kv_heads, head_dim, call.positions, *call.rope);
    kernels::AttentionDims dims;
    dims.batch = call.batch;
    dims.queries = dims.keys = call.length;
    dims.heads = heads;
    dims.kv_heads = kv_heads;
    dims.head_dim = head_dim;
    dims.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    attended = cache ? CachedAttention(projected.value(), call, dims, *pattern, *cache).run()
                     : attend_all(projected, call, dims, *pattern);
  }
  return output.forward(attended);
}

void Attention::visit(const std::string& prefix, Visitor& visitor) {
  qkv.visit(prefix + ".qkv", visitor);
  output.visit(prefix + ".output", visitor);
}

}  // namespace hone
