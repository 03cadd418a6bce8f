#include "nn/attention/attention.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/error.h"
#include "ops/attention.h"
#include "ops/head_norm.h"

namespace hone {

Attention::Attention(const BlockBlueprint& blueprint, const LayerBlueprint& layer, const Share& share)
    : pattern_(attention_pattern(layer.attention)),
      heads_(share.of(layer.heads)),
      kv_heads_(share.of(layer.kv_heads)),
      head_dim_(blueprint.head_dim),
      qkv_(Linear::make((layer.heads + 2 * layer.kv_heads) * head_dim_, blueprint.dim,
                        blueprint.biases || blueprint.qkv_biases, layer.own_projections(),
                        share.rows({layer.heads * head_dim_, layer.kv_heads * head_dim_, layer.kv_heads * head_dim_}))),
      output_(Linear::make(blueprint.dim, layer.heads * head_dim_, blueprint.biases, layer.own_projections(),
                           share.columns({layer.heads * head_dim_}))),
      normed_{heads_, kv_heads_},
      score_(score_rule(layer.score)) {
  score_.first_head = share.first(layer.heads);
  score_.heads = layer.heads;
  if (!layer.qk_norm) return;
  if (layer.qk_norm_whole) normed_ = {1, 1};
  query_norm_ = Norm::of_heads(blueprint, heads_ * head_dim_ / normed_.queries);
  key_norm_ = Norm::of_heads(blueprint, kv_heads_ * head_dim_ / normed_.keys);
}

namespace {

// Up to this many new tokens are attended one query at a time, with the bits of as many calls; more go through the
// tiles, which pack keys first.
constexpr int64_t decode_queries = 8;

// The rows of one sequence, as sequence 0.
template <class Rows>
Rows of_sequence(const Rows& rows, int64_t sequence) {
  return kernels::starting_at(rows, sequence, 0);
}

// Adds the pairs of a call whose first query stands at `position`.
void count(AttentionMeter* meter, const kernels::AttentionDims& dims, const kernels::BlockPlan& plan,
           int64_t position) {
  if (!meter) return;
  const int64_t lists = dims.batch * dims.heads;
  meter->visible_pairs += lists / plan.lists * plan.visible_pairs;
  meter->causal_pairs += lists * (dims.queries * position + dims.queries * (dims.queries + 1) / 2);
}

// New queries of a group of spans against a cache.
class CachedAttention {
 public:
  // `qkv` and `out`: the rows of the group. dims.batch spans of dims.queries tokens.
  CachedAttention(const Tensor& qkv, const Tensor& out, const Batch::Group& group, const kernels::AttentionDims& dims,
                  const AttentionPattern& pattern, LayerCache& cache, AttentionMeter* meter)
      : spans_(group.spans),
        phase_(group.phase),
        dims_(dims),
        pattern_(pattern),
        cache_(cache),
        meter_(meter),
        in_(ops::QkvRows::of(qkv, dims)),
        out_rows_(ops::head_rows(out, dims)) {}

  void run() {
    int64_t latest = 0;
    for (const Span& span : spans_) latest = std::max(latest, span.first);
    const int64_t length = dims_.queries;
    const bool steps = phase_ == Phase::step || (phase_ == Phase::counted && length <= decode_queries);
    if (steps && dims_.heads <= 64 * dims_.kv_heads && spans_.front().together.empty()) {
      // A ring and summaries are as the first query must see them only before the next token is stored.
      const int64_t at_once = cache_.wraps(latest + length) || pattern_.need().summary_block ? 1 : length;
      for (int64_t t = 0; t < length; t += at_once) {
        for (size_t i = 0; i < spans_.size(); ++i) store(i, t, at_once);
        decode(t, at_once, cache_.wraps(latest + t + at_once));
      }
      return;
    }
    for (size_t i = 0; i < spans_.size(); ++i) {
      kernels::AttentionDims one = dims_;
      one.batch = 1;
      one.query_offset = spans_[i].first;
      if (cache_.wraps(spans_[i].first + length)) {
        attend_history(one, i);
        store(i, 0, length);
      } else {
        store(i, 0, length);
        one.keys = spans_[i].first + length;
        const LayerCache::Plain past = cache_.plain(spans_[i].sequence, one.keys);
        attend(one, i, past.keys, past.values,
               *pattern_.plan(
                   {one, of_sequence(in_.q, at(i)), cache_.key_summaries(spans_[i].sequence), spans_[i].together}));
      }
    }
  }

 private:
  static int64_t at(size_t i) { return static_cast<int64_t>(i); }

  void store(size_t i, int64_t first, int64_t count) {
    cache_.store(spans_[i].sequence, spans_[i].first + first, count, kernels::starting_at(in_.k, at(i), first),
                 kernels::starting_at(in_.v, at(i), first));
  }

  void attend(const kernels::AttentionDims& one, size_t i, kernels::ConstHeadRows k, kernels::ConstHeadRows v,
              const kernels::BlockPlan& plan) {
    kernels::attention_forward(one, of_sequence(in_.q, at(i)), k, v, of_sequence(out_rows_, at(i)), nullptr, plan);
    count(meter_, one, plan, spans_[i].first);
  }

  // A ring keeps what its next query sees: the first of several would miss what the last ones replace. So they see a
  // copy.
  void attend_history(kernels::AttentionDims one, size_t i) {
    const Span& span = spans_[i];
    LayerCache::History history = cache_.history(span.sequence, span.first, span.count);
    const int64_t before = static_cast<int64_t>(history.positions.size()), rows = before + span.count;
    const auto view = [&](const Tensor& t) {
      return kernels::HeadRows{t.raw(), t.dtype(), 0, dims_.head_dim, rows * dims_.head_dim};
    };
    const kernels::HeadRows k = view(history.keys), v = view(history.values);
    cache_.copy_as_stored(of_sequence(in_.k, at(i)), k, before, span.count);
    cache_.copy_as_stored(of_sequence(in_.v, at(i)), v, before, span.count);
    for (int64_t p = 0; p < span.count; ++p) history.positions.push_back(static_cast<int32_t>(span.first + p));
    one.keys = rows;
    const kernels::MaskRule rule = pattern_.rule();
    const bool gap = history.positions.back() - history.positions.front() + 1 != rows;
    if (gap || rule.sinks > 0 || !span.together.empty()) {
      attend(one, i, k, v,
             *kernels::causal_plan({one.queries, rows, one.query_offset}, rule, history.positions,
                                   seen_from(history.positions, span)));
    } else {  // only differences of positions matter: as if the first row's were 0, where plans are shared
      one.query_offset = before;
      attend(one, i, k, v, *kernels::causal_plan({one.queries, rows, before}, rule));
    }
  }

  // BlockPlan::seen_from of rows at `positions`, the last of which are the span's.
  static std::vector<int32_t> seen_from(std::vector<int32_t> positions, const Span& span) {
    if (span.together.empty()) return {};
    for (const RowRange& range : span.together)
      std::fill_n(positions.end() - span.count + range.first, range.count,
                  static_cast<int32_t>(span.first + range.first));
    return positions;
  }

  // What the kernel wants of each span. A thread keeps its lists: a token of a small model comes here once a layer.
  struct Lists {
    std::vector<int64_t> lengths, starts, sequences, visit_starts;
    std::vector<int32_t> positions;  // of a ring's rows
    std::vector<kernels::DecodeVisit> visits;

    void clear() {
      for (std::vector<int64_t>* list : {&lengths, &starts, &sequences, &visit_starts}) list->clear();
      visit_starts.push_back(0);
      visits.clear();
    }
  };

  // Tokens first … first + count - 1 of every span.
  void decode(int64_t first, int64_t count, bool wraps) {
    kernels::DecodeDims d;
    d.batch = dims_.batch;
    d.queries = count;
    d.heads = dims_.heads;
    d.kv_heads = dims_.kv_heads;
    d.head_dim = dims_.head_dim;
    d.scale = dims_.scale;
    d.score = dims_.score;
    d.rule = pattern_.rule();
    thread_local Lists kept;
    Lists& lists = kept;
    lists.clear();
    for (const Span& span : spans_) {
      lists.lengths.push_back(std::min(span.first + first + count, cache_.rows()));
      lists.starts.push_back(span.first + first);
      lists.sequences.push_back(span.sequence);
    }
    d.key_lengths = lists.lengths.data();
    d.query_positions = lists.starts.data();
    d.key_sequences = lists.sequences.data();
    if (wraps) {
      lists.positions.resize(static_cast<size_t>(dims_.batch * cache_.rows()));
      for (size_t i = 0; i < spans_.size(); ++i)
        cache_.positions(lists.starts[i] + count, lists.positions.data() + at(i) * cache_.rows());
      d.key_positions = lists.positions.data();
      d.key_positions_stride = cache_.rows();
    }
    bool chosen = true;
    for (size_t i = 0; i < spans_.size() && chosen; ++i) {
      kernels::AttentionDims one = dims_;
      one.batch = 1;
      one.queries = count;
      one.query_offset = lists.starts[i];
      chosen =
          pattern_.visits({one, kernels::starting_at(in_.q, at(i), first), cache_.key_summaries(spans_[i].sequence)},
                          lists.visit_starts, lists.visits);
    }
    if (chosen) {
      d.visits = lists.visits.data();
      d.visit_starts = lists.visit_starts.data();
    }
    if (cache_.coded()) {
      d.code = cache_.code();
      d.k_scales = cache_.key_scales();
      d.v_scales = cache_.value_scales();
    }
    kernels::attention_decode(d, kernels::starting_at(in_.q, 0, first), cache_.keys(), cache_.values(),
                              kernels::starting_at(out_rows_, 0, first));
  }

  std::span<const Span> spans_;
  Phase phase_;
  const kernels::AttentionDims& dims_;
  const AttentionPattern& pattern_;
  LayerCache& cache_;
  AttentionMeter* meter_;
  ops::QkvRows in_;
  kernels::HeadRows out_rows_;
};

// The plan of a group of whole sequences, whose rows `qkv` is.
std::shared_ptr<const kernels::BlockPlan> plan_of(const Tensor& qkv, const kernels::AttentionDims& dims,
                                                  const AttentionPattern& pattern, std::span<const RowRange> together) {
  const ops::QkvRows in = ops::QkvRows::of(qkv, dims);
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
  return pattern.plan({dims, in.q, summaries, together});
}

}  // namespace

Var Attention::project(const Var& x, const Call& call, int64_t layer) const {
  Var projected = qkv_.forward(x, call, call.eight_bits_at(layer, Site::mixer_input));
  AttentionMeter* const meter = call.trace.attention;
  const SecondsInto watch(!meter ? nullptr : call.again ? &meter->backward_seconds : &meter->seconds);
  if (query_norm_.gain)
    projected = ops::head_norm(projected, normed_.queries, normed_.keys, *query_norm_.gain, *key_norm_.gain,
                               query_norm_.epsilon, qkv_.part.divided() ? call.ranks : nullptr);
  if (call.rope) projected = ops::rope(projected, heads_ + kv_heads_, head_dim_, call.batch.positions(), *call.rope);
  return projected;
}

kernels::AttentionDims Attention::dims_of(const Batch::Group& group) const {
  kernels::AttentionDims dims;
  dims.batch = static_cast<int64_t>(group.spans.size());
  dims.queries = dims.keys = group.count;
  dims.heads = heads_;
  dims.kv_heads = kv_heads_;
  dims.head_dim = head_dim_;
  dims.scale = 1.0f / std::sqrt(static_cast<float>(head_dim_));
  dims.score = score_;
  return dims;
}

Var Attention::forward(const Var& x, const Call& call, int64_t layer, LayerState* state) const {
  const Var projected = project(x, call, layer);
  Var attended;
  {
    AttentionMeter* const meter = call.trace.attention;
    const SecondsInto watch(!meter ? nullptr : call.again ? &meter->backward_seconds : &meter->seconds);
    const std::vector<Batch::Group> groups = call.batch.groups();
    if (state) {
      attended = Var(Tensor::empty({call.batch.rows(), heads_ * head_dim_}, projected.value().dtype()));
      for (const Batch::Group& group : groups) {
        const ops::AttentionPart part{dims_of(group), group.first_row, nullptr};
        CachedAttention(part.rows_of(projected.value()), part.rows_of(attended.value()), group, part.dims, *pattern_,
                        static_cast<LayerCache&>(*state), meter)
            .run();
      }
    } else {
      std::vector<ops::AttentionPart> parts;
      for (const Batch::Group& group : groups) {
        ops::AttentionPart part{dims_of(group), group.first_row, nullptr};
        part.plan = plan_of(part.rows_of(projected.value()), part.dims, *pattern_, group.spans.front().together);
        count(call.again ? nullptr : meter, part.dims, *part.plan, 0);
        parts.push_back(std::move(part));
      }
      attended = ops::attention(projected, std::move(parts), meter ? &meter->backward_seconds : nullptr);
    }
  }
  return output_.forward(attended, call, call.eight_bits_at(layer, Site::mixer_output), call.unread);
}

void Attention::remember(const Var& x, const Call& call, int64_t layer, LayerState* state) const {
  const Var projected = project(x, call, layer);
  for (const Batch::Group& group : call.batch.groups()) {
    const ops::AttentionPart part = {dims_of(group), group.first_row, nullptr};
    const ops::QkvRows in = ops::QkvRows::of(part.rows_of(projected.value()), part.dims);
    for (size_t i = 0; i < group.spans.size(); ++i) {
      const auto at = static_cast<int64_t>(i);
      static_cast<LayerCache&>(*state).store(group.spans[i].sequence, group.spans[i].first, group.count,
                                             of_sequence(in.k, at), of_sequence(in.v, at));
    }
  }
}

std::unique_ptr<LayerState> Attention::make_state(const StateShape& shape) const {
  return std::make_unique<LayerCache>(pattern_->need(), kv_heads_, head_dim_, shape);
}

void Attention::configure(const LayerBlueprint& layer) {
  pattern_ = attention_pattern(layer.attention);
}

void Attention::visit(const Place& at, Visitor& visitor) {
  const int64_t queries = heads_ * head_dim_, keys = kv_heads_ * head_dim_;
  qkv_.visit(at.in("qkv"), Role::qkv, visitor, false, {queries, keys, keys});
  output_.visit(at.in("output"), Role::attention_output, visitor);
  if (!query_norm_.gain) return;
  query_norm_.visit(at.in("query_norm"), NormOf::query, visitor);
  key_norm_.visit(at.in("key_norm"), NormOf::key, visitor);
}

// Queries, keys and values, with norms of them also as they were before them; what attention gives and its log sums.
MixerArrays Attention::training_arrays() const {
  const int64_t out = heads_ * head_dim_, into = (heads_ + 2 * kv_heads_) * head_dim_;
  MixerArrays arrays = {{into, out}, {heads_}, out, into};
  if (query_norm_.gain) {
    arrays.kept.push_back(into);
    arrays.kept_f32.push_back(normed_.queries + normed_.keys);
  }
  return arrays;
}

// Both products, over the keys that the pattern shows.
double Attention::flops(int64_t position) const {
  return 4 * static_cast<double>(pattern_->visible_keys(position)) * static_cast<double>(heads_ * head_dim_);
}

double Attention::state_bytes_read(int64_t position, DType type, kernels::CacheCode code) const {
  const auto row = code == kernels::CacheCode::none
                       ? static_cast<double>(head_dim_) * static_cast<double>(size_of(type))
                       : static_cast<double>(kernels::code_row_bytes(code, head_dim_) + 2);  // and a scale
  return 2.0 * static_cast<double>(kv_heads_) * row * static_cast<double>(pattern_->visible_keys(position));
}

double Attention::state_bytes(const StateShape& shape) const {
  return LayerCache::bytes_of(pattern_->need(), kv_heads_, head_dim_, shape);
}

}  // namespace hone
