// Key blocks that a few queries of many query blocks see: those queries' rows are gathered into full tiles, so that the
// work is that of the pairs that are visible (as in Mixture of Block Attention, Lu et al. 2025, arXiv 2502.13189,
// section 2.3). Included only by kernels/isa/attention/*.cpp.
#pragma once

#include "kernels/isa/attention/pack.h"
#include "kernels/isa/attention/scores.h"

namespace hone::kernels::HONE_ISA {

// Calls add(query) for each query that visits key block j by a gathered visit, of query blocks begin … end - 1.
template <class F>
inline void for_gathered(const VisitLists& by_key, int64_t list, int64_t j, int64_t begin, int64_t end, F&& add) {
  const int64_t* starts = by_key.starts + list * (by_key.blocks + 1);
  int64_t low = starts[j], high = starts[j + 1];
  while (low < high) {  // to the first visit by a query block from `begin` on
    const int64_t middle = (low + high) / 2;
    if (by_key.visits[middle].block < begin)
      low = middle + 1;
    else
      high = middle;
  }
  for (int64_t v = low; v < starts[j + 1] && by_key.visits[v].block < end; ++v) {
    const BlockVisit& visit = by_key.visits[v];
    if (!visit.gathered) continue;
    for (uint64_t bits = visit.queries; bits; bits &= bits - 1) add(visit.block * tile + __builtin_ctzll(bits));
  }
}

inline ScorePositions gathered_positions(const AttentionArgs& args, const int32_t* queries, int64_t count) {
  return {static_cast<int32_t>(args.dims.query_offset), queries, count};
}

// to[tile][units16]: the rows of `count` queries as operand elements, zeros up to a multiple of 16 rows.
template <class Op, class T>
inline UnitRows gather_rows(const Width<Op>& width, const T* from, int64_t stride, const int32_t* queries,
                            int64_t count, Unit* to) {
  using Element = typename Op::Element;
  const int64_t row_bytes = width.units16 * static_cast<int64_t>(sizeof(Unit));
  const int64_t filled = width.dim * static_cast<int64_t>(sizeof(Element));
  for (int64_t r = 0; r < count; ++r) {
    char* row = reinterpret_cast<char*>(to + r * width.units16);
    convert_row(from + queries[r] * stride, reinterpret_cast<Element*>(row), width.dim);
    if (filled < row_bytes) __builtin_memset(row + filled, 0, static_cast<size_t>(row_bytes - filled));
  }
  const int64_t rows = (count + 15) / 16 * 16;
  __builtin_memset(to + count * width.units16, 0, static_cast<size_t>((rows - count) * row_bytes));
  return {to, width.units16};
}

// What the gathered tiles of one head add up to: an unfinished softmax for each query of an item.
template <class Op>
struct GatheredSums {
  float* rows;           // [queries][padded] sum of p * v
  float *tops, *totals;  // [queries] largest score in powers of two, sum of p
  GatheredSums(Carver& carver, const Width<Op>& width, int64_t blocks)
      : rows(carver.take<float>(blocks * tile * width.padded)),
        tops(carver.take<float>(blocks * tile)),
        totals(carver.take<float>(blocks * tile)) {}

  void clear(const Width<Op>& width, int64_t blocks) {
    __builtin_memset(rows, 0, static_cast<size_t>(blocks * tile * width.padded) * sizeof(float));
    __builtin_memset(totals, 0, static_cast<size_t>(blocks * tile) * sizeof(float));
    for (int64_t c = 0; c < blocks * tile; ++c) tops[c] = lowest_top;
  }
};

// The forward of gathered tiles.
template <class Op, class T>
class GatheredForward {
 public:
  // ahead: rows to ask for while tiles are computed.
  GatheredForward(const AttentionArgs& args, const ForwardItem& item, const Width<Op>& width, Carver& carver,
                  RowsAhead& ahead)
      : ahead_(ahead),
        args_(args),
        item_(item),
        width_(width),
        sums_(carver, width, item.end - item.begin),
        rows_(carver.take<Unit>(tile * width.units16)),
        query_(carver.take<Unit>(tile * width.units16)),
        probabilities_(carver.take<Unit>(tile * tile / Op::per_unit)),
        scores_(carver.take<float>(tile * tile)),
        products_(carver.take<float>(tile * width.padded)),
        factors_(carver.take<float>(tile)),
        queries_(carver.take<int32_t>(tile)) {}

  // All key blocks of one head; packed(j, keys, values) gives their operands.
  template <class Packed>
  void run(int64_t head, Packed&& packed) {
    head_ = head;
    sums_.clear(width_, item_.end - item_.begin);
    const int64_t list = item_.sequence * args_.dims.heads + head;
    for (int64_t j = 0; j < args_.by_key.blocks; ++j) {
      count_ = 0;
      const auto compute = [&] {
        const Unit *keys, *values;
        packed(j, keys, values);
        compute_tile(j, keys, values);
        count_ = 0;
      };
      for_gathered(args_.by_key, list, j, item_.begin, item_.end, [&](int64_t query) {
        queries_[count_++] = static_cast<int32_t>(query);
        ask(query);
        if (count_ == tile) compute();
      });
      if (count_ > 0) compute();
    }
  }

  const GatheredSums<Op>& sums() const { return sums_; }  // from query block item.begin on

 private:
  void ask(int64_t query) const {
    const T* q = rows_of<T>(args_.q, item_.sequence, query, head_);
    for (int64_t at = 0; at < width_.dim; at += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(q + at, 0, 3);
    const float* row = sums_.rows + (query - item_.begin * tile) * width_.padded;
    for (int64_t at = 0; at < width_.padded; at += 16) __builtin_prefetch(row + at, 1, 3);
  }

  void compute_tile(int64_t j, const Unit* keys, const Unit* values) {
    const int64_t columns = (count_ + 15) / 16 * 16;
    const UnitRows rows =
        gather_rows(width_, rows_of<T>(args_.q, item_.sequence, 0, head_), args_.q.row_stride, queries_, count_, rows_);
    transpose_rows(width_, rows, query_, columns);
    ahead_.step(RowsAhead::some);
    product<Op>(tile, columns, width_.units, Left{keys, width_.units16, 1}, Right{query_, tile}, scores_, tile, false);
    change_scores(args_.dims.score, {scores_, tile, columns, tile, args_.dims.scale, head_,
                                     gathered_positions(args_, queries_, count_), key_positions(args_, j * tile)});
    for (int64_t c = 0; c < columns; c += lanes) {
      ahead_.step(RowsAhead::some);
      exponentiate(c);
    }
    ahead_.step(RowsAhead::some);
    product<Op>(columns, width_.padded, tile / Op::per_unit, Left{probabilities_, 1, tile},
                Right{values, width_.padded}, products_, width_.padded, false);
    ahead_.step(RowsAhead::some);
    for (int64_t c = 0; c < count_; ++c) {
      float* to = sums_.rows + (queries_[c] - item_.begin * tile) * width_.padded;
      const float* from = products_ + c * width_.padded;
      const Vec factor = broadcast(factors_[c]);
      for (int64_t d = 0; d < width_.padded; d += lanes) store(to + d, load(to + d) * factor + load(from + d));
    }
  }

  // Probabilities of `lanes` columns relative to the largest score so far, and what the sums before shrink by.
  void exponentiate(int64_t c) {
    alignas(64) float old_top[lanes], old_total[lanes];
    for (int i = 0; i < lanes; ++i) {
      const bool used = c + i < count_;
      const int64_t at = used ? queries_[c + i] - item_.begin * tile : 0;
      old_top[i] = used ? sums_.tops[at] : lowest_top;
      old_total[i] = used ? sums_.totals[at] : 0;
    }
    Vec largest[4];
    for (auto& v : largest) v = broadcast(-__builtin_inff());
    for (int r = 0; r < tile; r += 4)
      for (int u = 0; u < 4; ++u) largest[u] = max(largest[u], load(scores_ + (r + u) * tile + c));
    const float scale = args_.dims.scale * log2_e;
    const Vec before = load(old_top);
    const Vec top = max(before, max(max(largest[0], largest[1]), max(largest[2], largest[3])) * scale);
    const Vec factor = exp2<5>(before - top);
    Vec total_even = load(old_total) * factor, total_odd{};
    for (int r = 0; r < tile; r += 2) {
      const float* scores = scores_ + r * tile + c;
      const Vec even = exp2<Op::exp_degree>(load(scores) * scale - top);
      const Vec odd = exp2<Op::exp_degree>(load(scores + tile) * scale - top);
      total_even += even;
      total_odd += odd;
      Op::store_row_pair(probabilities_ + r / Op::per_unit * tile + c, tile, even, odd);
    }
    store(factors_ + c, factor);
    store(old_top, top);
    store(old_total, total_even + total_odd);
    for (int i = 0; i < lanes && c + i < count_; ++i) {
      sums_.tops[queries_[c + i] - item_.begin * tile] = old_top[i];
      sums_.totals[queries_[c + i] - item_.begin * tile] = old_total[i];
    }
  }

  RowsAhead& ahead_;
  const AttentionArgs& args_;
  const ForwardItem& item_;
  Width<Op> width_;
  GatheredSums<Op> sums_;
  Unit *rows_, *query_, *probabilities_;
  float *scores_, *products_, *factors_;
  int32_t* queries_;
  int64_t head_ = 0, count_ = 0;
};

}  // namespace hone::kernels::HONE_ISA
