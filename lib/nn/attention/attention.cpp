#include "nn/attention/attention.h"

#include <chrono>
#include <cmath>
#include <cstring>

#include "kernels/elementwise.h"
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

class Stopwatch {
 public:
  explicit Stopwatch(double* seconds) : seconds_(seconds) {
    if (seconds_) start_ = std::chrono::steady_clock::now();
  }
  ~Stopwatch() {
    if (seconds_) *seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double* seconds_;
  std::chrono::steady_clock::time_point start_;
};

// Copies the new rows' keys and values behind those that the cache holds.
void append(const Tensor& qkv, const Forward& call, const kernels::AttentionDims& dims, LayerCache& cache) {
  const int64_t width = dims.kv_heads * dims.head_dim;
  const size_t unit = size_of(qkv.dtype());
  const kernels::View rows = qkv.view();
  for (int64_t s = 0; s < call.batch; ++s) {
    const int64_t row = s * call.length, place = s * call.cache->capacity + call.cache->lengths[static_cast<size_t>(s)];
    for (Tensor* to : {&cache.keys, &cache.values}) {
      const int64_t first = (dims.heads + (to == &cache.values ? dims.kv_heads : 0)) * dims.head_dim;
      kernels::convert(
          {qkv.raw() + static_cast<size_t>(row * rows.stride + first) * unit, qkv.dtype(), call.length, width, rows.stride},
          {to->raw() + static_cast<size_t>(place * width) * size_of(to->dtype()), to->dtype(), call.length, width, width});
    }
  }
}

kernels::HeadRows cache_rows(const Tensor& t, const kernels::AttentionDims& dims) {
  const int64_t width = dims.kv_heads * dims.head_dim;
  return {t.raw(), t.dtype(), t.dim(1) * width, width, dims.head_dim};
}

kernels::HeadRows shifted(kernels::HeadRows rows, int64_t sequence) {
  rows.data = static_cast<std::byte*>(rows.data) + static_cast<size_t>(sequence * rows.batch_stride) * size_of(rows.dtype);
  return rows;
}

// Without a tape: new queries against everything the cache holds, their own keys included.
Var attend_cache(const Var& qkv, const Forward& call, kernels::AttentionDims dims, const AttentionPattern& pattern,
                        LayerCache& cache) {
  append(qkv.value(), call, dims, cache);
  const Tensor out = Tensor::empty({call.batch * call.length, dims.heads * dims.head_dim}, qkv.value().dtype());
  const kernels::HeadRows q = ops::QkvRows::of(qkv.value(), dims).q, rows = ops::head_rows(out, dims);
  const kernels::HeadRows k = cache_rows(cache.keys, dims), v = cache_rows(cache.values, dims);
  std::vector<int64_t> lengths = call.cache->lengths;
  for (int64_t& length : lengths) length += call.length;
  if (call.length <= decode_queries) {
    kernels::DecodeDims decode;
    decode.batch = dims.batch;
    decode.queries = dims.queries;
    decode.heads = dims.heads;
    decode.kv_heads = dims.kv_heads;
    decode.head_dim = dims.head_dim;
    decode.scale = dims.scale;
    decode.rule = pattern.rule();
    decode.key_lengths = lengths.data();
    kernels::attention_decode(decode, q, k, v, rows);
    return Var(out);
  }
  for (int64_t s = 0; s < call.batch; ++s) {
    kernels::AttentionDims one = dims;
    one.batch = 1;
    one.keys = lengths[static_cast<size_t>(s)];
    one.query_offset = one.keys - call.length;
    kernels::attention_forward(one, shifted(q, s), shifted(k, s), shifted(v, s), shifted(rows, s), nullptr,
                               *pattern.plan({one.queries, one.keys, one.query_offset}));
  }
  return Var(out);
}

}  // namespace

Var Attention::forward(const Var& x, Forward& call, LayerCache* cache) {
  Var projected = qkv.forward(x);
  Var attended;
  {
    const Stopwatch watch(call.attention_seconds);
    if (positions == PositionKind::rotary)
      projected = ops::rope(projected, heads + kv_heads, head_dim, call.positions, *call.rope);
    kernels::AttentionDims dims;
    dims.batch = call.batch;
    dims.queries = dims.keys = call.length;
    dims.heads = heads;
    dims.kv_heads = kv_heads;
    dims.head_dim = head_dim;
    dims.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    attended = cache ? attend_cache(projected, call, dims, *pattern, *cache)
                     : ops::attention(projected, dims, pattern->plan({call.length, call.length, 0}));
  }
  return output.forward(attended);
}

void Attention::visit(const std::string& prefix, Visitor& visitor) {
  qkv.visit(prefix + ".qkv", visitor);
  output.visit(prefix + ".output", visitor);
}

}  // namespace hone
