#include "nn/attention/cache.h"

#include <algorithm>

#include "kernels/rows/elementwise.h"

namespace hone {
namespace {

int64_t blocks_for(const CacheNeed& need, int64_t capacity) {
  return need.summary_block ? (capacity + need.summary_block - 1) / need.summary_block : 0;
}

// Decoding reads scales by blocks of 64 rows.
int64_t rows_of_scales(int64_t rows) {
  return (rows + kernels::attention_block - 1) / kernels::attention_block * kernels::attention_block;
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

int64_t LayerCache::rows_for(const CacheNeed& need, const StateShape& shape) {
  if (need.window >= kernels::MaskRule::unlimited) return shape.capacity;
  return std::min(shape.capacity, need.window + need.sinks + shape.take_back);
}

double LayerCache::bytes_of(const CacheNeed& need, int64_t kv_heads, int64_t head_dim, const StateShape& shape) {
  const double heads = static_cast<double>(shape.sequences) * static_cast<double>(kv_heads);
  const bool coded = shape.code != kernels::CacheCode::none;
  const int64_t rows = rows_for(need, shape);
  const double row = coded ? static_cast<double>(kernels::code_row_bytes(shape.code, head_dim))
                           : static_cast<double>(head_dim) * static_cast<double>(size_of(shape.type));
  const double scales = coded ? 2.0 * static_cast<double>(rows_of_scales(rows)) : 0;
  return heads * (2.0 * (static_cast<double>(rows) * row + scales) +
                  static_cast<double>(head_dim) * static_cast<double>(kernels::KeySummaries::rows * sizeof(float)) *
                      static_cast<double>(blocks_for(need, shape.capacity)));
}

Tensor LayerCache::scales_for(int64_t sequences, int64_t heads, int64_t rows) {
  return Tensor::empty({sequences, heads, rows_of_scales(rows), 1}, DType::bf16);
}

LayerCache::LayerCache(const CacheNeed& need, int64_t kv_heads, int64_t head_dim, const StateShape& shape)
    : need_(need), type_(shape.type), code_(shape.code), head_dim_(head_dim) {
  const int64_t rows = rows_for(need, shape);
  const int64_t width = coded() ? kernels::code_row_bytes(code_, head_dim) : head_dim;
  for (Tensor* t : {&keys_, &values_})
    *t = Tensor::empty({shape.sequences, kv_heads, rows, width}, coded() ? info_of(code_).type : type_);
  if (coded())
    for (Tensor* t : {&key_scales_, &value_scales_}) *t = scales_for(shape.sequences, kv_heads, rows);
  if (need.summary_block)
    summaries_ = Tensor::empty(
        {shape.sequences, kv_heads, blocks_for(need, shape.capacity), kernels::KeySummaries::rows, head_dim});
}

int64_t LayerCache::bytes() const {
  return static_cast<int64_t>(keys_.bytes() + values_.bytes() +
                              (coded() ? key_scales_.bytes() + value_scales_.bytes() : 0) +
                              (need_.summary_block ? summaries_.bytes() : 0));
}

// The query after `tokens` tokens sees the window - 1 before it; the ring has the latest ones of `length`.
int64_t LayerCache::earliest(int64_t length) const {
  return wraps(length) ? std::max<int64_t>(1, length - (ring() - std::min(need_.window, ring()))) : 1;
}

// Rows need no change: which are valid follows from how many tokens there are. A summary holds what was added to it.
void LayerCache::truncate(int64_t sequence, int64_t, int64_t tokens) {
  if (need_.summary_block == 0) return;
  const int64_t first = tokens / need_.summary_block * need_.summary_block;
  if (tokens == first) return;
  const int64_t count = tokens - first;
  if (!coded()) return summarize(sequence, kernels::starting_at(keys(sequence), 0, first), first, count);
  const Tensor room = Tensor::empty({keys_.dim(1), count, head_dim_}, type_);
  const kernels::HeadRows again = {room.raw(), type_, 0, head_dim_, count * head_dim_};
  take(coded_keys(sequence), first, again, 0, count);
  summarize(sequence, again, first, count);
}

void LayerCache::summarize(int64_t sequence, kernels::ConstHeadRows k, int64_t position, int64_t count) {
  const kernels::KeySummaries of = key_summaries(sequence);
  kernels::summarize_keys(k, 0, keys_.dim(1), head_dim_, position, count, need_.summary_block,
                          const_cast<float*>(of.data), of.head_stride);
}

kernels::HeadRows LayerCache::view(const Tensor& t, int64_t sequence) {
  if (!t) return {};  // scales of a cache that is no codes
  const int64_t head = t.dim(2) * t.dim(3), batch = t.dim(1) * head;
  return kernels::starting_at(kernels::HeadRows{t.raw(), t.dtype(), batch, t.dim(3), head}, sequence, 0);
}

void LayerCache::put(kernels::ConstHeadRows from, int64_t from_row, const kernels::CodedRows& to, int64_t to_row,
                     int64_t count) const {
  if (!coded()) return copy_heads(from, from_row, to.codes, to_row, count, keys_.dim(1), head_dim_);
  kernels::encode_cache(kernels::starting_at(from, 0, from_row), to, to_row, count, keys_.dim(1), head_dim_);
}

void LayerCache::take(const kernels::CodedRows& from, int64_t from_row, kernels::HeadRows to, int64_t to_row,
                      int64_t count) const {
  if (!coded()) return copy_heads(from.codes, from_row, to, to_row, count, keys_.dim(1), head_dim_);
  kernels::decode_cache(from, from_row, kernels::starting_at(to, 0, to_row), count, keys_.dim(1), head_dim_);
}

LayerCache::Plain LayerCache::plain(int64_t sequence, int64_t tokens) const {
  Plain result;
  result.keys = keys(sequence);
  result.values = values(sequence);
  if (!coded()) return result;
  const auto copy = [&](const kernels::CodedRows& from, Tensor& room) {
    room = Tensor::empty({keys_.dim(1), tokens, head_dim_}, type_);
    const kernels::HeadRows to = {room.raw(), type_, 0, head_dim_, tokens * head_dim_};
    take(from, 0, to, 0, tokens);
    return to;
  };
  result.keys = copy(coded_keys(sequence), result.key_room);
  result.values = copy(coded_values(sequence), result.value_room);
  return result;
}

void LayerCache::copy_as_stored(kernels::ConstHeadRows from, kernels::HeadRows to, int64_t to_row,
                                int64_t count) const {
  const int64_t heads = keys_.dim(1);
  if (!coded()) return copy_heads(from, 0, to, to_row, count, heads, head_dim_);
  const Tensor codes = Tensor::empty({1, heads, count, keys_.dim(3)}, keys_.dtype()),
               scales = scales_for(1, heads, count);
  const kernels::CodedRows stored = {code_, view(codes, 0), view(scales, 0)};
  put(from, 0, stored, 0, count);
  take(stored, 0, to, to_row, count);
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
  const int64_t end = position + count;
  if (need_.summary_block) summarize(sequence, k, position, count);
  const int64_t sinks = std::min(need_.sinks, rows());
  for (int64_t p = position; p < end;) {
    // What the ring loses again within this call is not stored.
    if (wraps(end) && p >= sinks) p = std::max(p, end - ring());
    const int64_t row = p < sinks ? p : sinks + (p - sinks) % ring();
    const int64_t together = std::min(end - p, (p < sinks ? sinks : rows()) - row);
    put(k, p - position, coded_keys(sequence), row, together);
    put(v, p - position, coded_values(sequence), row, together);
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
  const int64_t heads = keys_.dim(1);
  const int64_t sinks = std::min({need_.sinks, rows(), position});
  const int64_t first = std::max(sinks, position - std::min(need_.window - 1, ring()));
  History result;
  for (int64_t p = 0; p < sinks; ++p) result.positions.push_back(static_cast<int32_t>(p));
  for (int64_t p = first; p < position; ++p) result.positions.push_back(static_cast<int32_t>(p));
  const int64_t size = static_cast<int64_t>(result.positions.size()) + more;
  const auto copy = [&](const kernels::CodedRows& from) {
    const Tensor to = Tensor::empty({heads, size, head_dim_}, type_);
    const kernels::HeadRows rows_to = {to.raw(), type_, 0, head_dim_, size * head_dim_};
    if (sinks > 0) take(from, 0, rows_to, 0, sinks);
    for (int64_t p = first; p < position;) {
      const int64_t row = sinks + (p - sinks) % ring(), together = std::min(position - p, rows() - row);
      take(from, row, rows_to, sinks + p - first, together);
      p += together;
    }
    return to;
  };
  result.keys = copy(coded_keys(sequence));
  result.values = copy(coded_values(sequence));
  return result;
}

}  // namespace hone
