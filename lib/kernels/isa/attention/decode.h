// Decode: each row of the cache is read once and serves all query rows of its head, four at a time. The work is bounded
// by memory, so that everything is f32 and nothing is packed. For elements of a cache that are numbers, and for each of
// its codes (codes/NAME.cpp).
#pragma once

#include "kernels/isa/attention/codes.h"
#include "kernels/isa/attention/pack.h"
#include "kernels/isa/attention/scores.h"

namespace hone::kernels::HONE_ISA {

constexpr int rows_at_once = 4, vecs_at_once = 4;

// Rows of a cache that will be read soon. A thread reads in turn a block's keys and its values, some KB each that lie
// far apart: too little for the processor to see a stream in them, so that while one is used the other is asked for.
// Into the second cache: the first has no room for both.
struct SoonRows {
  const char* row = nullptr;
  int64_t stride = 0, bytes = 0, count = 0;  // to the next row and of a row, in bytes; rows

  void ask(int64_t rows) {
    for (; rows > 0 && count > 0; --rows) {
      for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(row + at, 0, 2);
      if (--count) row += stride;
    }
  }
};

// As load_wide(), in one instruction instead of two where there is one that moves 16-bit lanes anywhere: from a cache
// that lies near by, widening is what takes the time.
inline Vec load_row(const float* from) {
  return load(from);
}
inline Vec load_row(const bf16* from) {
#if defined(HONE_VECTOR_AVX512)
  alignas(64) static constexpr uint16_t upper[32] = {0, 0, 0, 1, 0, 2,  0, 3,  0, 4,  0, 5,  0, 6,  0, 7,
                                                     0, 8, 0, 9, 0, 10, 0, 11, 0, 12, 0, 13, 0, 14, 0, 15};
  const __m512i v = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  return (Vec)_mm512_maskz_permutexvar_epi16(0xaaaaaaaau, _mm512_load_si512(upper), v);
#else
  return load_wide(from);
#endif
}

// Where the v'th vector of a block of `Vecs` begins: a product of numbers without a sign, of which the compiler knows that
// it is a multiple, so that codes which share bytes need no arithmetic to be found.
template <int Vecs>
inline int64_t vector_at(int64_t block, int v) {
  return static_cast<int64_t>(static_cast<uint64_t>(block) * (Vecs * lanes)) + v * lanes;
}

// Numbers d … d + lanes - 1 of a row; of codes without the scale.
template <class T>
inline Vec load_at(const T* row, int64_t d) {
  if constexpr (is_code<T>)
    return T::load(row, d);
  else
    return load_row(row + d);
}

// The sums over the lanes of 16 vectors.
inline Vec sum_each(const float* vectors) {
  static_assert(group == 16);
#if defined(HONE_VECTOR_AVX512)
  __m512 v[16];
  for (int i = 0; i < 16; ++i) v[i] = _mm512_loadu_ps(vectors + i * 16);
  for (int i = 0; i < 8; ++i)
    v[i] = _mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]) + _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]);
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(v[2 * i]), b = _mm512_castps_pd(v[2 * i + 1]);
    v[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b)) + _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
  }
  for (int i = 0; i < 2; ++i)
    v[i] = _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x88) + _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xdd);
  return _mm512_shuffle_f32x4(v[0], v[1], 0x88) + _mm512_shuffle_f32x4(v[0], v[1], 0xdd);
#elif defined(HONE_VECTOR_AVX2)
  Vec halves[2];
  for (int h = 0; h < 2; ++h, vectors += 4 * lanes)
    halves[h] = _mm256_hadd_ps(_mm256_hadd_ps(load(vectors), load(vectors + lanes)),
                               _mm256_hadd_ps(load(vectors + 2 * lanes), load(vectors + 3 * lanes)));
  return _mm256_permute2f128_ps(halves[0], halves[1], 0x20) + _mm256_permute2f128_ps(halves[0], halves[1], 0x31);
#elif defined(HONE_NEON)
  return vpaddq_f32(vpaddq_f32(load(vectors), load(vectors + 4)), vpaddq_f32(load(vectors + 8), load(vectors + 12)));
#else
  Vec sums;
  for (int i = 0; i < lanes; ++i) sums[i] = sum(load(vectors + i * lanes));
  return sums;
#endif
}

template <class Q, class T>
class Decode {
 public:
  Decode(const DecodeArgs& args, const DecodeItem& item)
      : args_(args),
        item_(item),
        in_group_(args.heads / args.kv_heads),
        rows_(args.queries * in_group_),
        padded_((args.head_dim + 15) / 16 * 16),
        whole_(is_code<T> ? padded_ : args.head_dim / lanes * lanes) {
    Carver carver(item.scratch);
    carve(carver);
  }

  static size_t scratch(const DecodeArgs& args) {
    Decode sizes(args, DecodeItem{});
    Carver carver(nullptr);
    sizes.carve(carver);
    return carver.used();
  }

  void run() {
    load_queries();
    for (int64_t r = 0; r < rows_; ++r) item_.tops[r] = lowest_top, item_.totals[r] = 0;
    __builtin_memset(item_.sums, 0, static_cast<size_t>(rows_ * padded_) * sizeof(float));
    int64_t place = 0;
    for (Block block = next_block(item_, place); block.count;) {
      const Block following = next_block(item_, place);
      visit(block, following.count ? rows_soon(args_.k, item_, following) : keys_of_next());
      block = following;
    }
  }

 private:
  struct Block {
    int64_t first = 0, count = 0;  // rows
    uint64_t selected = 0;         // rows of queries that see it whatever the rule says
  };

  // The next block of an item of which anything may be visible; count 0: none is left. `place` counts from 0.
  Block next_block(const DecodeItem& item, int64_t& place) const {
    const int64_t places = item.visits ? item.visit_count : (item.end - item.begin + tile - 1) / tile;
    while (place < places) {
      Block block;
      block.first = item.visits ? item.visits[place].block * tile : item.begin + place * tile;
      block.selected = item.visits ? item.visits[place].rows : 0;
      ++place;
      const int64_t left = item.end - block.first;
      block.count = left < tile ? left : tile;
      if (block.count > 0 && (block.selected || item.key_positions || !skipped(item, block))) return block;
    }
    return {};
  }

  bool skipped(const DecodeItem& item, const Block& block) const {
    const int64_t last = item.query_position + args_.queries - 1;
    return block.first > last ||
           (block.first >= args_.sinks && block.first + block.count - 1 + args_.window <= item.query_position);
  }

  SoonRows rows_soon(const ConstHeadRows& rows, const DecodeItem& item, const Block& block) const {
    constexpr int64_t size = sizeof(T);
    return {reinterpret_cast<const char*>(rows_of<T>(rows, item.key_sequence, block.first, item.kv_head)),
            rows.row_stride * size, (is_code<T> ? rows.row_stride : args_.head_dim) * size, block.count};
  }

  ScorePositions keys_at(const Block& block) const {
    if (!item_.key_positions) return {static_cast<int32_t>(block.first)};
    return {0, item_.key_positions + block.first, block.count};
  }

  SoonRows keys_of_next() const {
    int64_t place = 0;
    const Block block = item_.next ? next_block(*item_.next, place) : Block{};
    return block.count ? rows_soon(args_.k, *item_.next, block) : SoonRows{};
  }

  void carve(Carver& carver) {
    queries_ = carver.take<float>(rows_ * padded_);
    scores_ = carver.take<float>(rows_ * tile);
    partial_ = carver.take<float>(rows_at_once * group * lanes);
    tails_ = carver.take<float>(tile * lanes);
  }

  // Row r is query r % queries of query head r / queries of the group.
  void load_queries() {
    for (int64_t r = 0; r < rows_; ++r) {
      const Q* from =
          rows_of<Q>(args_.q, item_.sequence, r % args_.queries, item_.kv_head * in_group_ + r / args_.queries);
      for (int64_t d = 0; d < padded_; ++d)
        queries_[r * padded_ + d] = d < args_.head_dim ? widen(from[d]) * args_.scale * log2_e : 0;
      if constexpr (is_code<T>) rotate_row(queries_ + r * padded_, args_.head_dim);
    }
  }

  // `later`: keys of the block after this one.
  void visit(const Block& block, SoonRows later) {
    const T* keys = rows_of<T>(args_.k, item_.key_sequence, block.first, item_.kv_head);
    const T* values = rows_of<T>(args_.v, item_.key_sequence, block.first, item_.kv_head);
    const int64_t count = block.count;
    soon_ = rows_soon(args_.v, item_, block);
    asked_a_row_ = 1;
    copy_tails(keys, args_.k.row_stride, count);
    for (int64_t r = 0; r < rows_;) r += in_blocks(r, [&]<int R>() { score<R>(keys, count, r); });
    for (int64_t r = 0; r < rows_; ++r) {
      apply_scales(args_.k_scales, r, block);
      // In powers of two here. The row's last numbers are no scores, and hidden with it.
      change_scores(args_.score, {scores_ + r * tile,
                                  1,
                                  (count + lanes - 1) / lanes * lanes,
                                  tile,
                                  ln_2,
                                  item_.kv_head * in_group_ + r / args_.queries,
                                  {static_cast<int32_t>(item_.query_position + r % args_.queries)},
                                  keys_at(block),
                                  false});
      hide_keys(r, block);
      exponentiate(r);
      apply_scales(args_.v_scales, r, block);
    }
    soon_ = later;
    asked_a_row_ = (later.count + count - 1) / count;
    copy_tails(values, args_.v.row_stride, count);
    for (int64_t r = 0; r < rows_;) r += in_blocks(r, [&]<int R>() { weigh<R>(values, count, r); });
  }

  // Scores, or weights, times the scales of the block's rows; past its last row they stand for nothing.
  void apply_scales(const ConstHeadRows& scales, int64_t r, const Block& block) {
    if constexpr (is_code<T>) {
      const bf16* of_rows = rows_of<bf16>(scales, item_.key_sequence, block.first, item_.kv_head);
      for (int64_t k = 0; k < block.count; k += lanes) {
        float* at = scores_ + r * tile + k;
        store(at, load(at) * load_wide(of_rows + k));
      }
    }
  }

  // Calls f for as many of the rows from r on as are done at once; returns their number.
  template <class F>
  int in_blocks(int64_t r, F&& f) {
    if (rows_ - r >= 4) return f.template operator()<4>(), 4;
    if (rows_ - r >= 2) return f.template operator()<2>(), 2;
    return f.template operator()<1>(), 1;
  }

  // The elements of each row that do not fill a vector, with zeros after them: nothing past a row is read.
  void copy_tails(const T* from, int64_t stride, int64_t count) {
    if (whole_ >= args_.head_dim) return;
    if constexpr (!is_code<T>)  // whose rows are padded
      for (int64_t k = 0; k < count; ++k)
        for (int64_t d = 0; d < lanes; ++d)
          tails_[k * lanes + d] = whole_ + d < args_.head_dim ? widen(from[k * stride + whole_ + d]) : 0;
  }

  template <int R>
  void score(const T* keys, int64_t count, int64_t r) {
    const float* queries = queries_ + r * padded_;
    for (int64_t from = 0; from < count; from += group) {
      const int64_t many = count - from < group ? count - from : group;
      for (int64_t k = 0; k < many; ++k) {
        const T* key = keys + (from + k) * args_.k.row_stride;
        if (r == 0) soon_.ask(1);
        // Two sums, of every other vector: one would have to wait for itself.
        Vec sums[R][2] = {};
        const auto add = [&](int which, const Vec& x, int64_t d) {
          for (int i = 0; i < R; ++i) sums[i][which] += x * load(queries + i * padded_ + d);
        };
        const int64_t blocks = whole_ / (vecs_at_once * lanes);
        for (int64_t block = 0; block < blocks; ++block)
#pragma GCC unroll 4
          for (int v = 0; v < vecs_at_once; ++v) {
            const int64_t d = vector_at<vecs_at_once>(block, v);
            add(v % 2, load_at(key, d), d);
          }
        for (int64_t d = blocks * (vecs_at_once * lanes); d < whole_; d += lanes) add(0, load_at(key, d), d);
        if (whole_ < args_.head_dim) add(1, load(tails_ + (from + k) * lanes), whole_);
        for (int i = 0; i < R; ++i) store(partial_ + (i * group + k) * lanes, sums[i][0] + sums[i][1]);
      }
      for (int i = 0; i < R; ++i)
        for (int64_t k = 0; k < group; k += lanes)  // past `many` old partial sums: hidden below
          store(scores_ + (r + i) * tile + from + k, sum_each(partial_ + (i * group + k) * lanes));
    }
  }

  void hide_keys(int64_t r, const Block& block) {
    const int64_t j = block.first, count = block.count;
    float* scores = scores_ + r * tile;
    const int64_t query = item_.query_position + r % args_.queries;
    const bool chosen = block.selected >> (r & 63) & 1;  // no bits without visits
    const bool near = chosen || j + args_.window > query || j + count <= args_.sinks;
    if (item_.key_positions || !near || j + count - 1 > query) {
      for (int64_t k = 0; k < count; ++k) {
        const int64_t key = item_.key_positions ? item_.key_positions[j + k] : j + k;
        if (key < 0 || key > query || (!chosen && query - key >= args_.window && key >= args_.sinks))
          scores[k] = -__builtin_inff();
      }
    }
    for (int64_t k = count; k < tile; ++k) scores[k] = -__builtin_inff();
  }

  void exponentiate(int64_t r) {
    float* scores = scores_ + r * tile;
    Vec largest = load(scores);
    for (int64_t k = lanes; k < tile; k += lanes) largest = max(largest, load(scores + k));
    const float block_top = max_of(largest);
    if (block_top > item_.tops[r]) {
      const float factor = exp2<5>(broadcast(item_.tops[r] - block_top))[0];
      item_.tops[r] = block_top;
      item_.totals[r] *= factor;
      float* sums = item_.sums + r * padded_;
      for (int64_t d = 0; d < padded_; d += lanes) store(sums + d, load(sums + d) * factor);
    }
    const Vec top = broadcast(item_.tops[r]);
    Vec total{};
    for (int64_t k = 0; k < tile; k += lanes) {
      const Vec p = exp2<5>(load(scores + k) - top);
      total += p;
      store(scores + k, p);
    }
    item_.totals[r] += sum(total);
  }

  template <int R>
  void weigh(const T* values, int64_t count, int64_t r) {
    const int64_t stride = args_.v.row_stride, blocks = whole_ / (vecs_at_once * lanes);
    for (int64_t b = 0; b < blocks; ++b) weigh_columns<R, vecs_at_once>(values, b, stride, count, r, b * vecs_at_once);
    for (int64_t v = blocks * vecs_at_once; v * lanes < whole_; ++v)
      weigh_columns<R, 1>(values, v, stride, count, r, v);
    if (whole_ < args_.head_dim) weigh_columns<R, 1>(tails_, 0, lanes, count, r, whole_ / lanes);
  }

  // The block'th `Vecs` vectors of the rows, to as many of the sums from the to'th on.
  template <int R, int Vecs, class V>
  void weigh_columns(const V* values, int64_t block, int64_t stride, int64_t count, int64_t r, int64_t to) {
    Vec sums[R][Vecs];
    float* at = item_.sums + r * padded_ + to * lanes;
    for (int i = 0; i < R; ++i)
      for (int v = 0; v < Vecs; ++v) sums[i][v] = load(at + i * padded_ + v * lanes);
    const float* weights = scores_ + r * tile;
    for (int64_t k = 0; k < count; ++k, values += stride) {
      if (r == 0 && to == 0) soon_.ask(asked_a_row_);
      Vec x[Vecs];
      for (int v = 0; v < Vecs; ++v) x[v] = load_at(values, vector_at<Vecs>(block, v));
      for (int i = 0; i < R; ++i)
        for (int v = 0; v < Vecs; ++v) sums[i][v] += x[v] * weights[i * tile + k];
    }
    for (int i = 0; i < R; ++i)
      for (int v = 0; v < Vecs; ++v) store(at + i * padded_ + v * lanes, sums[i][v]);
  }

  const DecodeArgs& args_;
  const DecodeItem& item_;
  int64_t in_group_, rows_, padded_, whole_;  // whole_: elements of a row that fill vectors
  SoonRows soon_;
  int64_t asked_a_row_ = 1;
  float *queries_, *scores_, *partial_, *tails_;
};

}  // namespace hone::kernels::HONE_ISA
