#include "nn/attention/cache.h"

#include <algorithm>
#include <cstring>

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
  const bool coded = shape.code != kernels::CacheCode::none, in_pages = paged(need, shape);
  const int64_t rows = in_pages ? shape.page_rows : rows_for(need, shape);
  const double heads = static_cast<double>(in_pages ? shape.pages : shape.sequences) * static_cast<double>(kv_heads);
  const double row = coded ? static_cast<double>(kernels::code_row_bytes(shape.code, head_dim))
                           : static_cast<double>(head_dim) * static_cast<double>(size_of(shape.type));
  const double scales = coded ? 2.0 * static_cast<double>(rows_of_scales(rows)) : 0;
  const double summaries = static_cast<double>(shape.sequences) * static_cast<double>(kv_heads * head_dim) *
                           static_cast<double>(kernels::KeySummaries::rows * sizeof(float)) *
                           static_cast<double>(blocks_for(need, shape.capacity));
  return heads * 2.0 * (static_cast<double>(rows) * row + scales) + summaries;
}

Tensor LayerCache::scales_for(int64_t sequences, int64_t heads, int64_t rows) {
  return Tensor::empty({sequences, heads, rows_of_scales(rows), 1}, DType::bf16);
}

LayerCache::LayerCache(const CacheNeed& need, int64_t kv_heads, int64_t head_dim, const StateShape& shape)
    : need_(need), type_(shape.type), code_(shape.code), head_dim_(head_dim), rows_(rows_for(need, shape)) {
  if (paged(need, shape)) table_ = shape.table;
  const int64_t rows = table_ ? table_->page_rows : rows_, pieces = table_ ? table_->pages : shape.sequences;
  const int64_t width = coded() ? kernels::code_row_bytes(code_, head_dim) : head_dim;
  for (Tensor* t : {&keys_, &values_}) *t = Tensor::empty({pieces, kv_heads, rows, width}, coded() ? DType::u8 : type_);
  if (coded())
    for (Tensor* t : {&key_scales_, &value_scales_}) *t = scales_for(pieces, kv_heads, rows);
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
int64_t LayerCache::earliest(int64_t, int64_t length) const {
  return wraps(length) ? std::max<int64_t>(1, length - (ring() - std::min(need_.window, ring()))) : 1;
}

// Rows need no change: which are valid follows from how many tokens there are. A summary holds what was added to it.
void LayerCache::truncate(int64_t sequence, int64_t, int64_t tokens) {
  if (need_.summary_block == 0) return;
  const int64_t first = tokens / need_.summary_block * need_.summary_block;
  if (tokens == first) return;
  const int64_t count = tokens - first;
  if (!coded() && !table_) return summarize(sequence, kernels::starting_at(keys(sequence), 0, first), first, count);
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

kernels::HeadRows LayerCache::view(const Tensor& t, int64_t sequence) const {
  if (!t) return {};  // scales of a cache that is no codes
  const int64_t head = t.dim(2) * t.dim(3), batch = t.dim(1) * head;
  kernels::HeadRows rows = {t.raw(), t.dtype(), batch, t.dim(3), head};
  if (table_) rows.pages = {table_->of.data(), table_->page_rows, table_->per_sequence};
  return kernels::starting_at(rows, sequence, 0);
}

namespace {

// Calls f(rows without pages, first of `count` rows in them, how many rows went before, rows) page by page.
template <class F>
void by_page(const kernels::CodedRows& rows, int64_t row, int64_t count, F&& f) {
  const int64_t size = rows.codes.pages.of ? rows.codes.pages.rows : 0;
  if (size == 0) return f(rows, row, 0, count);
  for (int64_t done = 0, here; done < count; done += here) {
    here = std::min(count - done, size - (row + done) % size);
    const kernels::HeadRows scales = rows.scales.data ? kernels::in_page(rows.scales, 0, row + done) : rows.scales;
    f(kernels::CodedRows{rows.code, kernels::in_page(rows.codes, 0, row + done), scales}, 0, done, here);
  }
}

}  // namespace

void LayerCache::put(kernels::ConstHeadRows from, int64_t from_row, const kernels::CodedRows& to, int64_t to_row,
                     int64_t count) const {
  const int64_t heads = keys_.dim(1);
  by_page(to, to_row, count, [&](const kernels::CodedRows& page, int64_t row, int64_t done, int64_t here) {
    if (!coded()) return copy_heads(from, from_row + done, page.codes, row, here, heads, head_dim_);
    kernels::encode_cache(kernels::starting_at(from, 0, from_row + done), page, row, here, heads, head_dim_);
  });
}

void LayerCache::take(const kernels::CodedRows& from, int64_t from_row, kernels::HeadRows to, int64_t to_row,
                      int64_t count) const {
  const int64_t heads = keys_.dim(1);
  by_page(from, from_row, count, [&](const kernels::CodedRows& page, int64_t row, int64_t done, int64_t here) {
    if (!coded()) return copy_heads(page.codes, row, to, to_row + done, here, heads, head_dim_);
    kernels::decode_cache(page, row, kernels::starting_at(to, 0, to_row + done), here, heads, head_dim_);
  });
}

void LayerCache::copy_page(int32_t from, int32_t to, int64_t rows) {
  if (!table_) return;
  for (const Tensor* t : {&keys_, &values_, &key_scales_, &value_scales_}) {
    if (!*t) continue;
    const auto row = static_cast<size_t>(t->dim(3)) * size_of(t->dtype()), head = row * static_cast<size_t>(t->dim(2));
    auto* const data = t->raw();
    for (int64_t h = 0; h < t->dim(1); ++h)
      std::memcpy(data + static_cast<size_t>(to * t->dim(1) + h) * head,
                  data + static_cast<size_t>(from * t->dim(1) + h) * head, row * static_cast<size_t>(rows));
  }
}

namespace {

// Of a cache [sequences, heads, rows, width]: between the first rows of a sequence that hold `length` tokens, in whole
// blocks as scales stand, and a copy of them [heads, rows, width].
template <class F>
void each_head_of(const Tensor& cache, int64_t sequence, const Tensor& copy, F&& f) {
  const size_t row = static_cast<size_t>(cache.dim(3)) * size_of(cache.dtype());
  for (int64_t h = 0; h < cache.dim(1); ++h)
    f(cache.raw() + static_cast<size_t>((sequence * cache.dim(1) + h) * cache.dim(2)) * row,
      copy.raw() + static_cast<size_t>(h * copy.dim(1)) * row, static_cast<size_t>(copy.dim(1)) * row);
}

Tensor rows_of(const Tensor& cache, int64_t sequence, int64_t length) {
  const int64_t block = kernels::attention_block, rows = std::min(cache.dim(2), (length + block - 1) / block * block);
  const Tensor copy = Tensor::empty({cache.dim(1), std::max<int64_t>(rows, 1), cache.dim(3)}, cache.dtype());
  each_head_of(cache, sequence, copy, [](auto* from, auto* to, size_t bytes) { std::memcpy(to, from, bytes); });
  return copy;
}

}  // namespace

// A sequence's rows, or the summaries of its tokens [kv_heads, blocks, 3, head_dim].
std::vector<Tensor> LayerCache::keep(int64_t sequence, int64_t length) const {
  std::vector<Tensor> kept;
  if (!table_)
    for (const Tensor* t : {&keys_, &values_, &key_scales_, &value_scales_})
      if (*t) kept.push_back(rows_of(*t, sequence, length));
  if (need_.summary_block == 0) return kept;
  const kernels::KeySummaries from = key_summaries(sequence);
  kept.push_back(Tensor::empty({summaries_.dim(1), blocks_for(need_, length), kernels::KeySummaries::rows, head_dim_}));
  const int64_t head = kept.back().size() / summaries_.dim(1);
  for (int64_t h = 0; h < summaries_.dim(1); ++h)
    std::copy_n(from.data + h * from.head_stride, head, kept.back().data<float>() + h * head);
  return kept;
}

void LayerCache::restore(int64_t sequence, int64_t, const std::vector<Tensor>& kept) {
  auto next = kept.begin();
  if (!table_)
    for (const Tensor* t : {&keys_, &values_, &key_scales_, &value_scales_})
      if (*t)
        each_head_of(*t, sequence, *next++, [](auto* to, auto* from, size_t bytes) { std::memcpy(to, from, bytes); });
  if (need_.summary_block == 0) return;
  const kernels::KeySummaries to = key_summaries(sequence);
  const int64_t head = next->size() / summaries_.dim(1);
  for (int64_t h = 0; h < summaries_.dim(1); ++h)
    std::copy_n(next->data<float>() + h * head, head, const_cast<float*>(to.data) + h * to.head_stride);
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
  const auto flat = [](const Tensor& t) {
    return kernels::HeadRows{t.raw(), t.dtype(), 0, t.dim(3), t.dim(2) * t.dim(3)};
  };
  const kernels::CodedRows stored = {code_, flat(codes), flat(scales)};
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
  constexpr int64_t block = kernels::attention_block;
  const int64_t heads = keys_.dim(1);
  const int64_t sinks = std::min({need_.sinks, rows(), position});
  const int64_t first = std::max(sinks, position - std::min(need_.window - 1, ring()));
  // Whole blocks: those of the sinks, and from the first visible token's on.
  const int64_t of_sinks = (sinks + block - 1) / block * block, begin = std::max(first / block * block, of_sinks);
  History result;
  for (int64_t p = 0; p < std::min(of_sinks, position); ++p) result.positions.push_back(static_cast<int32_t>(p));
  const int64_t before = static_cast<int64_t>(result.positions.size());
  for (int64_t p = begin; p < position; ++p) result.positions.push_back(static_cast<int32_t>(p));
  const int64_t size = static_cast<int64_t>(result.positions.size()) + more;
  const auto row_of = [&](int64_t p) { return p < of_sinks ? p : before + p - begin; };
  const auto copy = [&](const kernels::CodedRows& from) {
    const Tensor to = Tensor::zeros({heads, size, head_dim_}, type_);
    const kernels::HeadRows rows_to = {to.raw(), type_, 0, head_dim_, size * head_dim_};
    if (sinks > 0) take(from, 0, rows_to, 0, sinks);
    for (int64_t p = first; p < position;) {
      const int64_t row = sinks + (p - sinks) % ring();
      int64_t together = std::min(position - p, rows() - row);
      if (p < of_sinks) together = std::min(together, of_sinks - p);
      take(from, row, rows_to, row_of(p), together);
      p += together;
    }
    return to;
  };
  result.keys = copy(coded_keys(sequence));
  result.values = copy(coded_values(sequence));
  return result;
}

}  // namespace hone
