// Choosing key blocks by content: scores of queries with the summaries of each block's keys, and the best few of
// them. As in the tiles a query is a lane, so that the best are kept by comparisons down the rows. The larger of a
// dimension's products with the two extremes is that of the query's positive part with the largest number, or of its
// negative part with the smallest: one product of rows of twice the width.
#include "kernels/attention/route.h"
#include "kernels/isa/attention/functions.h"
#include "kernels/isa/attention/pack.h"

namespace hone::kernels::HONE_ISA {
namespace {

// to[2][dim]: each number where it is positive, else 0; then where it is not.
inline void split(const float* from, int64_t dim, float* to) {
  for (int64_t d = 0; d < dim; ++d) {
    to[d] = from[d] > 0 ? from[d] : 0;
    to[dim + d] = from[d] > 0 ? 0 : from[d];
  }
}
inline void split(const bf16* from, int64_t dim, float* to) {
  for (int64_t d = 0; d < dim; ++d) {
    const float x = widen(from[d]);
    to[d] = x > 0 ? x : 0;
    to[dim + d] = x > 0 ? 0 : x;
  }
}
#if defined(HONE_BF16_DOTS)
inline void split(const bf16* from, int64_t dim, bf16* to) {
  const auto* bits = reinterpret_cast<const uint16_t*>(from);
  auto* parts = reinterpret_cast<uint16_t*>(to);
  for (int64_t d = 0; d < dim; ++d) {
    const auto negative = static_cast<uint16_t>(-(bits[d] >> 15));
    parts[d] = bits[d] & static_cast<uint16_t>(~negative);
    parts[dim + d] = bits[d] & negative;
  }
}
#endif

template <class Op>
struct RouteScratch {
  Unit* summaries;     // [blocks][units16]
  Unit *rows, *query;  // the parts of the query block, and transposed
  float* scores;       // [tile][tile] blocks x queries
  float* best;         // [count][tile], largest first
  int32_t* limits;     // [tile]

  RouteScratch(Carver& carver, const Width<Op>& width, const RouteArgs& args)
      : summaries(carver.take<Unit>(args.blocks * width.units16)),
        rows(carver.take<Unit>(tile * width.units16)),
        query(carver.take<Unit>(tile * width.units16)),
        scores(carver.take<float>(tile * tile)),
        best(carver.take<float>(args.count * tile)),
        limits(carver.take<int32_t>(tile)) {}
};

template <class Op, class T>
class Route {
  using Element = typename Op::Element;

 public:
  Route(const RouteArgs& args, const RouteItem& item)
      : args_(args), item_(item), width_(2 * args.dims.head_dim), carver_(item.scratch), s_(carver_, width_, args) {}

  void run() {
    pack_summaries();
    const int64_t in_group = args_.dims.heads / args_.dims.kv_heads;
    for (int64_t i = item_.begin; i < item_.end; ++i) {
      const int64_t left = args_.dims.queries - i * tile, count = left < tile ? left : tile;
      set_limits(i, count);
      for (int64_t h = item_.kv_head * in_group; h < (item_.kv_head + 1) * in_group; ++h) choose(h, i, count);
    }
  }

 private:
  // The summaries of the blocks that the item's queries may choose from, as rows of operands; the same rounding
  // whatever else is computed.
  void pack_summaries() {
    const float* from =
        args_.summaries + item_.sequence * args_.summaries_batch_stride + item_.kv_head * args_.summaries_head_stride;
    const int64_t dim = args_.dims.head_dim, end = item_.end * tile;
    const int64_t last = args_.dims.query_offset + (end < args_.dims.queries ? end : args_.dims.queries) - 1;
    const int64_t past = last / args_.block, blocks = past < args_.blocks ? past : args_.blocks;
    const int64_t filled = width_.dim * static_cast<int64_t>(sizeof(Element));
    const int64_t row_bytes = width_.units16 * static_cast<int64_t>(sizeof(Unit));
    for (int64_t b = 0; b < blocks; ++b) {
      char* row = reinterpret_cast<char*>(s_.summaries + b * width_.units16);
      pack_summary(from + b * KeySummaries::rows * dim, dim, reinterpret_cast<Element*>(row));
      __builtin_memset(row + filled, 0, static_cast<size_t>(row_bytes - filled));
    }
  }

  // The two extremes, each drawn towards the mean.
  void pack_summary(const float* sum, int64_t dim, Element* to) {
    const float of_sum = (1 - extreme_share) / static_cast<float>(args_.block);
    for (const float* extreme : {sum + dim, sum + 2 * dim}) {
      for (int64_t d = 0; d < dim; ++d) narrow(of_sum * sum[d] + extreme_share * extreme[d], to[d]);
      to += dim;
    }
  }

  // Blocks that each query may choose from: those before its own, and with a window those that it does not show whole.
  void set_limits(int64_t i, int64_t count) {
    lowest_limit_ = args_.blocks;
    highest_limit_ = 0;
    for (int64_t c = 0; c < tile; ++c) {
      int64_t limit = 0;
      if (c < count) {
        const int64_t position = args_.dims.query_offset + i * tile + c;
        limit = position / args_.block;
        if (args_.window > 0) {
          const int64_t unseen = position < args_.window ? 0 : (position - args_.window) / args_.block + 1;
          limit = unseen < limit ? unseen : limit;
        }
        limit = limit < args_.blocks ? limit : args_.blocks;
      }
      s_.limits[c] = static_cast<int32_t>(limit);
      lowest_limit_ = limit < lowest_limit_ ? limit : lowest_limit_;
      highest_limit_ = limit > highest_limit_ ? limit : highest_limit_;
    }
  }

  void choose(int64_t head, int64_t i, int64_t count) {
    const int64_t list = item_.sequence * args_.dims.heads + head;
    int32_t* chosen = args_.chosen + (list * args_.query_blocks + i) * args_.count * tile;
    for (int64_t e = 0; e < args_.count * tile; ++e) {
      s_.best[e] = -__builtin_inff();
      chosen[e] = -1;
    }
    if (highest_limit_ == 0) return;
    const T* q = rows_of<T>(args_.q, item_.sequence, i * tile, head);
    const int64_t columns = (count + 15) / 16 * 16;
    pack_parts(q, count, columns);
    transpose_rows(width_, {s_.rows, width_.units16}, s_.query, columns);
    for (int64_t b = 0; b < highest_limit_; b += tile) {
      const int64_t left = highest_limit_ - b, blocks = left < tile ? left : tile;
      product<Op>(blocks, columns, width_.units, Left{s_.summaries + b * width_.units16, width_.units16, 1},
                  Right{s_.query, tile}, s_.scores, tile, false);
      for (int64_t c = 0; c < columns; c += lanes) keep_best(b, blocks, c, chosen);
    }
  }

  // The positive parts of the queries, and behind them the negative ones; zeros from `count` to `columns`.
  void pack_parts(const T* q, int64_t count, int64_t columns) {
    const int64_t dim = args_.dims.head_dim, row_bytes = width_.units16 * static_cast<int64_t>(sizeof(Unit));
    const int64_t filled = 2 * dim * static_cast<int64_t>(sizeof(Element));
    for (int64_t r = 0; r < columns; ++r) {
      char* row = reinterpret_cast<char*>(s_.rows + r * width_.units16);
      const bool there = r < count;
      if (there) split(q + r * args_.q.row_stride, dim, reinterpret_cast<Element*>(row));
      const int64_t from = there ? filled : 0;
      __builtin_memset(row + from, 0, static_cast<size_t>(row_bytes - from));
    }
  }

  // Takes `blocks` rows of scores, of the blocks from `first` on, into the best of `lanes` queries. Which rows any of
  // the queries may want is asked of all rows before one is taken: behind many blocks few are, in no order that a
  // processor could foresee.
  void keep_best(int64_t first, int64_t blocks, int64_t c, int32_t* chosen) {
    hide_unseen(first, blocks, c);
    const float* last = s_.best + (args_.count - 1) * tile + c;
    const Vec before = load(last);
    uint64_t wanted = 0;
    for (int64_t b = 0; b < blocks; ++b)
      wanted |= static_cast<uint64_t>(any_greater(load(s_.scores + b * tile + c), before)) << b;
    for (; wanted; wanted &= wanted - 1) {
      const int64_t b = __builtin_ctzll(wanted);
      const Vec score = load(s_.scores + b * tile + c);
      if (any_greater(score, load(last))) insert(score, broadcast(static_cast<int32_t>(first + b)), c, chosen);
    }
  }

  // Scores of blocks that a query may not choose from become -infinity.
  void hide_unseen(int64_t first, int64_t blocks, int64_t c) {
    const IntVec limits = load(s_.limits + c);
    for (int64_t b = lowest_limit_ > first ? lowest_limit_ - first : 0; b < blocks; ++b) {
      float* at = s_.scores + b * tile + c;
      store(at, select(broadcast(static_cast<int32_t>(first + b)) < limits, load(at), broadcast(-__builtin_inff())));
    }
  }

  // Moves what a score exceeds down by one place, and puts the score where that stood: behind its equals, which are of
  // earlier blocks. From the last place up no step waits for the one before.
  void insert(Vec score, IntVec index, int64_t c, int32_t* chosen) {
    float* best = s_.best + (args_.count - 1) * tile + c;
    int32_t* at = chosen + (args_.count - 1) * tile + c;
    Vec here = load(best);
    IntVec index_here = load(at), exceeds_here = score > here;
    for (int64_t n = args_.count - 1; n > 0; --n, best -= tile, at -= tile) {
      const Vec above = load(best - tile);
      const IntVec index_above = load(at - tile), exceeds_above = score > above;
      store(best, select(exceeds_above, above, select(exceeds_here, score, here)));
      store(at, select(exceeds_above, index_above, select(exceeds_here, index, index_here)));
      here = above;
      index_here = index_above;
      exceeds_here = exceeds_above;
    }
    store(best, select(exceeds_here, score, here));
    store(at, select(exceeds_here, index, index_here));
  }

  const RouteArgs& args_;
  const RouteItem& item_;
  Width<Op> width_;
  Carver carver_;
  RouteScratch<Op> s_;
  int64_t lowest_limit_ = 0, highest_limit_ = 0;
};

}  // namespace

size_t route_scratch(const RouteArgs& args) {
  Carver carver(nullptr);
  if (args.q.dtype == DType::bf16)
    RouteScratch<HalfOperand>(carver, Width<HalfOperand>(2 * args.dims.head_dim), args);
  else
    RouteScratch<FloatOperand>(carver, Width<FloatOperand>(2 * args.dims.head_dim), args);
  return carver.used();
}

void route(const RouteArgs& args, const RouteItem& item) {
  if (args.q.dtype == DType::bf16)
    Route<HalfOperand, bf16>(args, item).run();
  else
    Route<FloatOperand, float>(args, item).run();
}

namespace {

template <class T>
void summarize_rows(const T* from, int64_t stride, int64_t first, int64_t rows, int64_t head_dim, int64_t block,
                    float* summaries) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = from + r * stride;
    float *sum = summaries + (first + r) / block * KeySummaries::rows * head_dim, *high = sum + head_dim,
          *low = high + head_dim;
    const bool begins = (first + r) % block == 0;
    int64_t d = 0;
    for (; d + lanes <= head_dim; d += lanes) {
      const Vec x = load_wide(row + d);
      store(sum + d, begins ? x : load(sum + d) + x);
      store(high + d, begins ? x : max(x, load(high + d)));
      store(low + d, begins ? x : -max(-x, -load(low + d)));
    }
    for (; d < head_dim; ++d) {
      const float x = widen(row[d]);
      sum[d] = begins ? x : sum[d] + x;
      high[d] = begins || x > high[d] ? x : high[d];
      low[d] = begins || x < low[d] ? x : low[d];
    }
  }
}

}  // namespace

void summarize_head(const ConstHeadRows& k, int64_t sequence, int64_t head, int64_t first, int64_t rows,
                    int64_t head_dim, int64_t block, float* summaries) {
  if (k.dtype == DType::bf16)
    summarize_rows(rows_of<bf16>(k, sequence, 0, head), k.row_stride, first, rows, head_dim, block, summaries);
  else
    summarize_rows(rows_of<float>(k, sequence, 0, head), k.row_stride, first, rows, head_dim, block, summaries);
}

}  // namespace hone::kernels::HONE_ISA
