// Backward tiles, transposed like the forward's: keys x queries, so that K, V, P and dS are read row by row as left
// operands and nothing between the products is transposed. Per visit: S = K Q', P = exp(S - lse), dV += P dO, dP = V
// dO', dS = P (dP - delta) (times the slope of a score that was changed), dK += dS Q, dQ' += K' dS, where delta is the
// row sum of out * d_out.
#include "kernels/isa/attention/functions.h"
#include "kernels/isa/attention/gathered.h"

namespace hone::kernels::HONE_ISA {
namespace {

// Operands of up to 64 queries and their gradients.
struct QueryTile {
  const Unit *query_columns, *query_pairs, *out_columns, *out_pairs;
  const float *lse, *delta;
  ScorePositions at;
};

// The same for queries that were gathered.
template <class Op>
struct GatheredTile {
  Unit *query_columns, *query_pairs, *out_columns, *out_pairs, *rows;
  float *lse, *delta, *products;  // products: [tile][padded], what dq gets
  int32_t* queries;
  GatheredTile(Carver& carver, const Width<Op>& width)
      : query_columns(carver.take<Unit>(tile * width.units16)),
        query_pairs(carver.take<Unit>(tile * width.units)),
        out_columns(carver.take<Unit>(tile * width.units16)),
        out_pairs(carver.take<Unit>(tile * width.units)),
        rows(carver.take<Unit>(tile * width.units16)),
        lse(carver.take<float>(tile)),
        delta(carver.take<float>(tile)),
        products(carver.take<float>(tile * width.padded)),
        queries(carver.take<int32_t>(tile)) {}
  QueryTile operands(const ScorePositions& at) const {
    return {query_columns, query_pairs, out_columns, out_pairs, lse, delta, at};
  }
};

template <class Op>
struct BackwardScratch {
  // Of every query block of the head: transposed for products with keys and values, row pairs for dK and dV.
  Unit *query_columns, *query_pairs, *out_columns, *out_pairs;
  float *lse, *delta;  // [query blocks * tile], lse in powers of two
  Unit *keys, *key_pairs, *values, *rows;
  float *scores, *products, *slopes;               // [group][tile] S, dP and slopes of one group of keys
  Unit *probabilities, *score_rows, *score_pairs;  // P and dS of the tile, by rows; dS again by pairs of rows
  float *dk, *dv;                                  // [tile][padded]
  GatheredTile<Op> gathered;

  BackwardScratch(Carver& carver, const Width<Op>& width, int64_t query_blocks)
      : query_columns(carver.take<Unit>(query_blocks * tile * width.units16)),
        query_pairs(carver.take<Unit>(query_blocks * tile * width.units)),
        out_columns(carver.take<Unit>(query_blocks * tile * width.units16)),
        out_pairs(carver.take<Unit>(query_blocks * tile * width.units)),
        lse(carver.take<float>(query_blocks * tile)),
        delta(carver.take<float>(query_blocks * tile)),
        keys(carver.take<Unit>(tile * width.units16)),
        key_pairs(carver.take<Unit>(tile * width.units)),
        values(carver.take<Unit>(tile * width.units16)),
        rows(carver.take<Unit>(tile * width.units16)),
        scores(carver.take<float>(group * tile)),
        products(carver.take<float>(group * tile)),
        slopes(carver.take<float>(group * tile)),
        probabilities(carver.take<Unit>(tile * tile / Op::per_unit)),
        score_rows(carver.take<Unit>(tile * tile / Op::per_unit)),
        score_pairs(carver.take<Unit>(tile * tile / Op::per_unit)),
        dk(carver.take<float>(tile * width.padded)),
        dv(carver.take<float>(tile * width.padded)),
        gathered(carver, width) {}
};

template <class T>
float dot(const T* a, const T* b, int64_t n) {
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < n; ++i) total += widen(a[i]) * widen(b[i]);
  return total;
}

template <class Op, class T>
class Backward {
  using Element = typename Op::Element;

 public:
  Backward(const AttentionArgs& args, const BackwardItem& item)
      : args_(args),
        item_(item),
        width_(args.dims.head_dim),
        carver_(item.scratch),
        s_(carver_, width_, args.by_query.blocks),
        kv_head_(item.head / (args.dims.heads / args.dims.kv_heads)),
        exponent_scale_(args.dims.scale * log2_e) {}

  void run() {
    for (int64_t i = 0; i < args_.by_query.blocks; ++i) {
      soon_.clear();
      if (i + 1 >= later_blocks) look_ahead(soon_, item_.sequence, item_.head, i + 1, 1);
      soon_.step(RowsAhead::all);
      pack_queries(i);
    }
    if (item_.next_sequence >= 0) look_ahead(later_, item_.next_sequence, item_.next_head, 0, later_blocks);
    later_.write(rows_of<T>(args_.dq, item_.sequence, 0, item_.head), args_.dq.row_stride, rows_from(0, later_blocks),
                 width_.dim);
    const int64_t dq_size = args_.by_query.blocks * tile * width_.padded;
    gathered_dq_ = item_.dq + dq_size;
    __builtin_memset(item_.dq, 0, static_cast<size_t>(args_.gathered ? 2 * dq_size : dq_size) * sizeof(float));
    for (int64_t j = item_.part; j < args_.by_key.blocks; j += item_.parts) key_block(j);
  }

 private:
  // Of the next head: all of a short sequence, and not more than a cache holds.
  static constexpr int64_t later_blocks = 4;

  int64_t rows_from(int64_t block, int64_t blocks) const {
    const int64_t left = args_.dims.queries - block * tile;
    return left < blocks * tile ? left : blocks * tile;
  }
  void look_ahead(RowsAhead& ahead, int64_t sequence, int64_t head, int64_t block, int64_t blocks) {
    for (const ConstHeadRows* x : {&args_.q, &args_.d_out, &args_.out})
      ahead.read(rows_of<T>(*x, sequence, block * tile, head), x->row_stride, rows_from(block, blocks), width_.dim);
    if (block == 0) look_ahead_keys(ahead, sequence, head / (args_.dims.heads / args_.dims.kv_heads), 0);
  }
  void look_ahead_keys(RowsAhead& ahead, int64_t sequence, int64_t kv_head, int64_t j) {
    const int64_t left = args_.dims.keys - j * tile, count = left < tile ? left : tile;
    ahead.read(rows_of<T>(args_.k, sequence, j * tile, kv_head), args_.k.row_stride, count, width_.dim);
    ahead.read(rows_of<T>(args_.v, sequence, j * tile, kv_head), args_.v.row_stride, count, width_.dim);
  }
  void step_ahead() {
    soon_.step(RowsAhead::some);
    later_.step(RowsAhead::some);
  }

  void pack_queries(int64_t i) {
    const auto& dims = args_.dims;
    const int64_t left = dims.queries - i * tile, count = left < tile ? left : tile;
    const T* q = rows_of<T>(args_.q, item_.sequence, i * tile, item_.head);
    const T* d_out = rows_of<T>(args_.d_out, item_.sequence, i * tile, item_.head);
    const T* out = rows_of<T>(args_.out, item_.sequence, i * tile, item_.head);
    const UnitRows query = rows_as_units(width_, q, args_.q.row_stride, count, s_.rows);
    transpose_rows(width_, query, s_.query_columns + i * tile * width_.units16);
    interleave_rows(width_, query, s_.query_pairs + i * tile * width_.units);
    const UnitRows out_gradient = rows_as_units(width_, d_out, args_.d_out.row_stride, count, s_.rows);
    transpose_rows(width_, out_gradient, s_.out_columns + i * tile * width_.units16);
    interleave_rows(width_, out_gradient, s_.out_pairs + i * tile * width_.units);
    const float* lse = args_.lse + (item_.sequence * dims.heads + item_.head) * dims.queries + i * tile;
    for (int64_t c = 0; c < tile; ++c) {
      s_.lse[i * tile + c] = c < count ? lse[c] * log2_e : 0;
      s_.delta[i * tile + c] =
          c < count ? dot(out + c * args_.out.row_stride, d_out + c * args_.d_out.row_stride, width_.dim) : 0;
    }
  }

  void key_block(int64_t j) {
    const int64_t left = args_.dims.keys - j * tile, count = left < tile ? left : tile;
    pack_rows<Op>(width_, rows_of<T>(args_.k, item_.sequence, j * tile, kv_head_), args_.k.row_stride, count, s_.keys);
    interleave_rows(width_, UnitRows{s_.keys, width_.units16}, s_.key_pairs);
    pack_rows<Op>(width_, rows_of<T>(args_.v, item_.sequence, j * tile, kv_head_), args_.v.row_stride, count,
                  s_.values);
    soon_.clear();
    look_ahead_keys(soon_, item_.sequence, kv_head_, j + item_.parts);
    if (item_.last) {
      soon_.write(rows_of<T>(args_.dk, item_.sequence, j * tile, kv_head_), args_.dk.row_stride, count, width_.dim);
      soon_.write(rows_of<T>(args_.dv, item_.sequence, j * tile, kv_head_), args_.dv.row_stride, count, width_.dim);
    }
    const int64_t size = tile * width_.padded;
    float* dk = item_.dkv ? item_.dkv + j * 2 * size : s_.dk;
    float* dv = item_.dkv ? dk + size : s_.dv;
    if (item_.first) {
      __builtin_memset(dk, 0, static_cast<size_t>(size) * sizeof(float));
      __builtin_memset(dv, 0, static_cast<size_t>(size) * sizeof(float));
    }
    const int64_t list = args_.lists == 1 ? 0 : item_.sequence * args_.dims.heads + item_.head;
    const int64_t* starts = args_.by_key.starts + list * (args_.by_key.blocks + 1);
    TileMask mask;
    for (int64_t v = starts[j]; v < starts[j + 1]; ++v) {
      const BlockVisit& visit = args_.by_key.visits[v];
      if (visit.gathered) continue;
      const int64_t queries = args_.dims.queries - visit.block * tile;
      const int columns = static_cast<int>(((queries < tile ? queries : tile) + 15) / 16 * 16);
      if (visit.partial)
        see(mask, args_, visit.block, j, visit.queries, columns);
      else
        see_all(mask, columns);
      visit_block(visit.block, j, mask, dk, dv);
    }
    if (args_.gathered) visit_gathered(list, j, dk, dv);
    if (item_.last) write(j, count, dk, dv);
  }

  QueryTile queries_of(int64_t i) const {
    return {s_.query_columns + i * tile * width_.units16,
            s_.query_pairs + i * tile * width_.units,
            s_.out_columns + i * tile * width_.units16,
            s_.out_pairs + i * tile * width_.units,
            s_.lse + i * tile,
            s_.delta + i * tile,
            query_positions(args_, i * tile)};
  }

  void visit_block(int64_t i, int64_t j, const TileMask& mask, float* dk, float* dv) {
    add_to_keys(queries_of(i), j, mask, dk, dv);
    float* dq = item_.dq + i * tile * width_.padded;
    for (int g = 0, next; g < groups; g = next) {
      next = same_columns(mask, g);
      if (mask.begin[g] == mask.end[g]) continue;
      const int64_t from = g * group / Op::per_unit;
      product<Op>(width_.dim, mask.end[g] - mask.begin[g], (next - g) * group / Op::per_unit,
                  Left{s_.key_pairs + from * width_.padded, 1, width_.padded},
                  Right{s_.score_pairs + from * tile + mask.begin[g], tile}, dq + mask.begin[g], tile, true);
    }
  }

  // The queries that alone of their blocks see key block j, 64 at a time.
  void visit_gathered(int64_t list, int64_t j, float* dk, float* dv) {
    int64_t count = 0;
    for_gathered(args_.by_key, list, j, 0, args_.by_query.blocks, [&](int64_t query) {
      s_.gathered.queries[count++] = static_cast<int32_t>(query);
      ask(query);
      if (count < tile) return;
      compute_gathered(j, count, dk, dv);
      count = 0;
    });
    if (count > 0) compute_gathered(j, count, dk, dv);
  }

  void ask(int64_t query) const {
    const T* q = rows_of<T>(args_.q, item_.sequence, query, item_.head);
    const T* d_out = rows_of<T>(args_.d_out, item_.sequence, query, item_.head);
    for (int64_t at = 0; at < width_.dim; at += 64 / static_cast<int64_t>(sizeof(T))) {
      __builtin_prefetch(q + at, 0, 3);
      __builtin_prefetch(d_out + at, 0, 3);
    }
    const float* row = gathered_dq_ + query * width_.padded;
    for (int64_t at = 0; at < width_.padded; at += 16) __builtin_prefetch(row + at, 1, 3);
  }

  void compute_gathered(int64_t j, int64_t count, float* dk, float* dv) {
    GatheredTile<Op>& t = s_.gathered;
    const int columns = static_cast<int>((count + 15) / 16 * 16);
    const UnitRows queries = gather_rows(width_, rows_of<T>(args_.q, item_.sequence, 0, item_.head), args_.q.row_stride,
                                         t.queries, count, t.rows);
    transpose_rows(width_, queries, t.query_columns, columns);
    interleave_rows(width_, queries, t.query_pairs, columns);
    const UnitRows gradients = gather_rows(width_, rows_of<T>(args_.d_out, item_.sequence, 0, item_.head),
                                           args_.d_out.row_stride, t.queries, count, t.rows);
    transpose_rows(width_, gradients, t.out_columns, columns);
    interleave_rows(width_, gradients, t.out_pairs, columns);
    for (int64_t c = 0; c < columns; ++c) {
      t.lse[c] = c < count ? s_.lse[t.queries[c]] : -lowest_top;  // past `count`: probabilities of 0
      t.delta[c] = c < count ? s_.delta[t.queries[c]] : 0;
    }
    TileMask mask;
    see_all(mask, columns);
    add_to_keys(t.operands(gathered_positions(args_, t.queries, count)), j, mask, dk, dv);
    product<Op>(columns, width_.padded, tile / Op::per_unit, Left{s_.score_pairs, 1, tile},
                Right{s_.key_pairs, width_.padded}, t.products, width_.padded, false);
    for (int64_t c = 0; c < count; ++c) {
      float* to = gathered_dq_ + t.queries[c] * width_.padded;
      const float* from = t.products + c * width_.padded;
      for (int64_t d = 0; d < width_.padded; d += lanes) store(to + d, load(to + d) + load(from + d));
    }
  }

  // dK and dV of key block j, which is at hand, from a tile of queries; leaves dS for dQ.
  void add_to_keys(const QueryTile& queries, int64_t j, const TileMask& mask, float* dk, float* dv) {
    constexpr int64_t row_units = tile / Op::per_unit;
    for (int g = 0; g < groups; ++g) {
      const int begin = mask.begin[g], columns = mask.end[g] - begin;
      if (columns == 0) continue;
      step_ahead();
      score_group(queries, j, mask, g);
      step_ahead();
      const int64_t from = g * group, units = columns / Op::per_unit, query = begin / Op::per_unit;
      const Unit* probabilities = s_.probabilities + from * row_units + query;
      const Unit* scores = s_.score_rows + from * row_units + query;
      product<Op>(group, width_.padded, units, Left{probabilities, row_units, 1},
                  Right{queries.out_pairs + query * width_.padded, width_.padded}, dv + from * width_.padded,
                  width_.padded, true);
      product<Op>(group, width_.padded, units, Left{scores, row_units, 1},
                  Right{queries.query_pairs + query * width_.padded, width_.padded}, dk + from * width_.padded,
                  width_.padded, true);
    }
  }

  // P and dS of 16 keys.
  void score_group(const QueryTile& queries, int64_t j, const TileMask& mask, int g) {
    const int begin = mask.begin[g], columns = mask.end[g] - begin;
    const int64_t from = g * group * width_.units16;
    product<Op>(group, columns, width_.units, Left{s_.keys + from, width_.units16, 1},
                Right{queries.query_columns + begin, tile}, s_.scores + begin, tile, false);
    product<Op>(group, columns, width_.units, Left{s_.values + from, width_.units16, 1},
                Right{queries.out_columns + begin, tile}, s_.products + begin, tile, false);
    const bool changes = args_.dims.score.kind != ScoreKind::plain;
    if (changes)
      change_scores(args_.dims.score,
                    {s_.scores + begin, group, columns, tile, args_.dims.scale, item_.head, queries.at.behind(begin),
                     key_positions(args_, j * tile + g * group)},
                    s_.slopes + begin);
    hide(mask, g, s_.scores);
    changes ? softmax_group<true>(queries, mask, g) : softmax_group<false>(queries, mask, g);
  }

  // The same from S, dP and, where scores were `changed`, their slopes.
  template <bool changed>
  void softmax_group(const QueryTile& queries, const TileMask& mask, int g) {
    auto* probabilities = reinterpret_cast<Element*>(s_.probabilities) + g * group * tile;
    auto* score_rows = reinterpret_cast<Element*>(s_.score_rows) + g * group * tile;
    Unit* score_pairs = s_.score_pairs + g * group / Op::per_unit * tile;
    for (int c = mask.begin[g]; c < mask.end[g]; c += lanes) {
      const Vec lse = load(queries.lse + c), delta = load(queries.delta + c);
      for (int r = 0; r < group; r += 2) {
        const int64_t even = r * tile + c, odd = even + tile;
        const Vec p_even = exp2<Op::exp_degree>(load(s_.scores + even) * exponent_scale_ - lse);
        const Vec p_odd = exp2<Op::exp_degree>(load(s_.scores + odd) * exponent_scale_ - lse);
        Vec ds_even = p_even * (load(s_.products + even) - delta);
        Vec ds_odd = p_odd * (load(s_.products + odd) - delta);
        if constexpr (changed) {
          ds_even *= load(s_.slopes + even);
          ds_odd *= load(s_.slopes + odd);
        }
        Op::store_row(probabilities + even, p_even);
        Op::store_row(probabilities + odd, p_odd);
        Op::store_row(score_rows + even, ds_even);
        Op::store_row(score_rows + odd, ds_odd);
        Op::store_row_pair(score_pairs + r / Op::per_unit * tile + c, tile, ds_even, ds_odd);
      }
    }
  }

  void write(int64_t j, int64_t count, const float* dk, const float* dv) {
    T* dk_rows = rows_of<T>(args_.dk, item_.sequence, j * tile, kv_head_);
    T* dv_rows = rows_of<T>(args_.dv, item_.sequence, j * tile, kv_head_);
    for (int64_t r = 0; r < count; ++r) {
      narrow(dk + r * width_.padded, args_.dims.scale, dk_rows + r * args_.dk.row_stride, width_.dim);
      narrow(dv + r * width_.padded, 1.f, dv_rows + r * args_.dv.row_stride, width_.dim);
    }
  }

  const AttentionArgs& args_;
  const BackwardItem& item_;
  Width<Op> width_;
  Carver carver_;
  BackwardScratch<Op> s_;
  RowsAhead soon_, later_;  // rows of the next key block; of the next head
  int64_t kv_head_;
  float exponent_scale_;
  float* gathered_dq_ = nullptr;
};

// The sum of `parts` arrays of `size` floats, `stride` apart.
const float* add_parts(const float* from, int64_t size, int64_t parts, int64_t stride, float* to) {
  for (int64_t e = 0; e < size; e += lanes) {
    Vec total = load(from + e);
    for (int64_t part = 1; part < parts; ++part) total += load(from + part * stride + e);
    store(to + e, total);
  }
  return to;
}

template <class Op, class T>
void finish(const AttentionArgs& args, int64_t sequence, int64_t head, const float* dq, int64_t parts,
            int64_t part_stride, void* scratch) {
  const Width<Op> width(args.dims.head_dim);
  const int64_t size = tile * width.padded;
  float* sums = static_cast<float*>(scratch);
  float* gathered_sums = sums + size;
  float* rows = gathered_sums + size;
  float factors[tile];
  for (float& factor : factors) factor = args.dims.scale;
  for (int64_t i = 0; i < args.by_query.blocks; ++i) {
    const float* from = dq + i * size;
    const float* gathered = args.gathered ? from + args.by_query.blocks * size : nullptr;
    if (parts > 1) {
      from = add_parts(from, size, parts, part_stride, sums);
      if (gathered) gathered = add_parts(gathered, size, parts, part_stride, gathered_sums);
    }
    const int64_t left = args.dims.queries - i * tile, count = left < tile ? left : tile;
    write_columns(width, from, factors, count, rows_of<T>(args.dq, sequence, i * tile, head), args.dq.row_stride, rows,
                  gathered, factors);
  }
}

}  // namespace

size_t backward_scratch(const AttentionArgs& args) {
  Carver carver(nullptr);
  if (args.q.dtype == DType::bf16)
    BackwardScratch<HalfOperand>(carver, Width<HalfOperand>(args.dims.head_dim), args.by_query.blocks);
  else
    BackwardScratch<FloatOperand>(carver, Width<FloatOperand>(args.dims.head_dim), args.by_query.blocks);
  const Width<FloatOperand> width(args.dims.head_dim);
  const size_t finishing = static_cast<size_t>(3 * tile * width.padded) * sizeof(float);
  return carver.used() > finishing ? carver.used() : finishing;
}

void backward(const AttentionArgs& args, const BackwardItem& item) {
  if (args.q.dtype == DType::bf16)
    Backward<HalfOperand, bf16>(args, item).run();
  else
    Backward<FloatOperand, float>(args, item).run();
}

void backward_finish(const AttentionArgs& args, int64_t sequence, int64_t head, const float* dq, int64_t parts,
                     int64_t part_stride, void* scratch) {
  if (args.q.dtype == DType::bf16)
    finish<HalfOperand, bf16>(args, sequence, head, dq, parts, part_stride, scratch);
  else
    finish<FloatOperand, float>(args, sequence, head, dq, parts, part_stride, scratch);
}

}  // namespace hone::kernels::HONE_ISA
