#include "nn/attention/cache.h"

#include <algorithm>

#include "kernels/rows/elementwise.h"

namespace hone {
namespace {

int64_t blocks_for(const CacheNeed& need, int64_t capacity) {
  return need.summary_block ? (capacity + need.summary_block - 1) / need.summary_block : 0;
}

// `rows` x `cols` elements from where `from` begins, rows `stride` elements apart.
kernels::ConstView matrix(kernels::ConstHeadRows from, int64_t rows, int64_t cols, int64_t stride) {
  return {from.data, from.dtype, rows, cols, stride};
}
kernels::View matrix(kernels::HeadRows to, int64_t rows, int64_t cols, int64_t stride) {
  return {to.data, to.dtype, rows, cols, stride};
}

}  // namespace

void copy_heads(kernels::ConstHeadRows from, int64_t from_row, kernels::HeadRows to, int64_t to_row, int64_t count,
                int64_t heads, int64_t head_dim) {
  from = kernels::starting_at(from, 0, from_row);
  to = kernels::starting_at(to, 0, to_row);
  if (count == 1)  // the heads of one token as rows
    return kernels::convert(matrix(from, heads, head_dim, from.head_stride),
                            matrix(to, heads, head_dim, to.head_stride));
  for (int64_t h = 0; h < heads; ++h)
    kernels::convert(matrix(kernels::starting_at(from, 0, 0, h), count, head_dim, from.row_stride),
                     matrix(kernels::starting_at(to, 0, 0, h), count, head_dim, to.row_stride));
}

int64_t LayerCache::rows_for(const CacheNeed& need, int64_t capacity) {
  return std::min(capacity, need.window >= kernels::MaskRule::unlimited ? capacity : need.window + need.sinks);
}

double LayerCache::bytes_of(const CacheNeed& need, int64_t batch, int64_t kv_heads, int64_t head_dim, int64_t capacity,
                            DType type) {
  const double row = static_cast<double>(batch) * static_cast<double>(kv_heads * head_dim);
  return row * (2.0 * static_cast<double>(rows_for(need, capacity)) * static_cast<double>(size_of(type)) +
                static_cast<double>(kernels::KeySummaries::rows * sizeof(float)) *
                    static_cast<double>(blocks_for(need, capacity)));
}

LayerCache::LayerCache(const CacheNeed& need, int64_t batch, int64_t kv_heads, int64_t head_dim, int64_t capacity,
                       DType type)
    : need_(need) {
  const Shape shape = {batch, kv_heads, rows_for(need, capacity), head_dim};
  keys_ = Tensor::empty(shape, type);
  values_ = Tensor::empty(shape, type);
  if (need.summary_block)
    summaries_ = Tensor::empty({batch, kv_heads, blocks_for(need, capacity), kernels::KeySummaries::rows, head_dim});
}

int64_t LayerCache::bytes() const {
  return static_cast<int64_t>(keys_.bytes() + values_.bytes() + (need_.summary_block ? summaries_.bytes() : 0));
}

kernels::HeadRows LayerCache::view(const Tensor& t, int64_t sequence) const {
  const int64_t head = t.dim(2) * t.dim(3), batch = t.dim(1) * head;
  return kernels::starting_at(kernels::HeadRows{t.raw(), t.dtype(), batch, t.dim(3), head}, sequence, 0);
}

kernels::KeySummaries LayerCache::key_summaries(int64_t sequence) const {
  if (!need_.summary_block) return {};
  auto result =
      kernels::KeySummaries::of(summaries_.data<float>(), summaries_.dim(1), summaries_.dim(2), summaries_.dim(4));
  result.data += sequence * result.batch_stride;
  return result;
}

void LayerCache::store(int64_t sequence, int64_t position, int64_t count, kernels::ConstHeadRows k,
                       kernels::ConstHeadRows v) {
  const int64_t heads = keys_.dim(1), head_dim = keys_.dim(3), end = position + count;
  if (need_.summary_block)
    kernels::summarize_keys(k, 0, heads, head_dim, position, count, need_.summary_block,
                            const_cast<float*>(key_summaries(sequence).data), key_summaries().head_stride);
  const int64_t sinks = std::min(need_.sinks, rows());
  for (int64_t p = position; p < end;) {
    // What the ring loses again within this call is not stored.
    if (wraps(end) && p >= sinks) p = std::max(p, end - ring());
    const int64_t row = p < sinks ? p : sinks + (p - sinks) % ring();
    const int64_t together = std::min(end - p, (p < sinks ? sinks : rows()) - row);
    copy_heads(k, p - position, keys(sequence), row, together, heads, head_dim);
    copy_heads(v, p - position, values(sequence), row, together, heads, head_dim);
    p += together;
  }
}

void LayerCache::positions(int64_t tokens, int32_t* of_rows) const {
  const int64_t sinks = std::min(need_.sinks, rows());
  for (int64_t row = 0; row < rows(); ++row) {
    int64_t position = row;
    if (row >= sinks && tokens > row) position += (tokens - 1 - row) / ring() * ring();
    of_rows[row] = static_cast<int32_t>(position < tokens ? position : -1);
  }
}

LayerCache::History LayerCache::history(int64_t sequence, int64_t position, int64_t more) const {
  const int64_t heads = keys_.dim(1), head_dim = keys_.dim(3);
  const int64_t sinks = std::min({need_.sinks, rows(), position});
  const int64_t first = std::max(sinks, position - std::min(need_.window - 1, ring()));
  History result;
  for (int64_t p = 0; p < sinks; ++p) result.positions.push_back(static_cast<int32_t>(p));
  for (int64_t p = first; p < position; ++p) result.positions.push_back(static_cast<int32_t>(p));
  const int64_t size = static_cast<int64_t>(result.positions.size()) + more;
  const auto copy = [&](const Tensor& from) {
    const Tensor to = Tensor::empty({heads, size, head_dim}, from.dtype());
    const kernels::HeadRows rows_to = {to.raw(), to.dtype(), 0, head_dim, size * head_dim};
    if (sinks > 0) copy_heads(view(from, sequence), 0, rows_to, 0, sinks, heads, head_dim);
    for (int64_t p = first; p < position;) {
      const int64_t row = sinks + (p - sinks) % ring(), together = std::min(position - p, rows() - row);
      copy_heads(view(from, sequence), row, rows_to, sinks + p - first, together, heads, head_dim);
      p += together;
    }
    return to;
  };
  result.keys = copy(keys_);
  result.values = copy(values_);
  return result;
}

}  // namespace hone
