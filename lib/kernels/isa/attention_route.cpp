// Choosing key blocks by content: scores of queries with the sums of each block's keys, and the best few of them. As in
// the tiles a query is a lane, so that the best are kept by comparisons down the rows.
#include "kernels/isa/attention_functions.h"
#include "kernels/isa/attention_pack.h"

namespace hone::kernels::HONE_ISA {
namespace {

template <class Op>
struct RouteScratch {
  Unit* sums;          // [blocks up to a multiple of 64][units16]
  Unit *rows, *query;  // the query block, and transposed
  float* scores;       // [tile][tile] blocks x queries
  float* best;         // [count][tile], largest first
  int32_t* limits;     // [tile]

  RouteScratch(Carver& carver, const Width<Op>& width, const RouteArgs& args)
      : sums(carver.take<Unit>((args.blocks + tile - 1) / tile * tile * width.units16)),
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
      : args_(args), item_(item), width_(args.dims.head_dim), carver_(item.scratch), s_(carver_, width_, args) {}

  void run() {
    pack_sums();
    const int64_t in_group = args_.dims.heads / args_.dims.kv_heads;
    for (int64_t i = item_.begin; i < item_.end; ++i) {
      const int64_t left = args_.dims.queries - i * tile, count = left < tile ? left : tile;
      set_limits(i, count);
      for (int64_t h = item_.kv_head * in_group; h < (item_.kv_head + 1) * in_group; ++h) choose(h, i, count);
    }
  }

 private:
  // The sums of the blocks as rows of operands; the same rounding whatever else is computed.
  void pack_sums() {
    const float* from = args_.sums + item_.sequence * args_.sums_batch_stride + item_.kv_head * args_.sums_head_stride;
    const int64_t blocks = (args_.blocks + tile - 1) / tile * tile;
    const int64_t row_bytes = width_.units16 * static_cast<int64_t>(sizeof(Unit));
    for (int64_t b = 0; b < blocks; ++b) {
      char* row = reinterpret_cast<char*>(s_.sums + b * width_.units16);
      const bool there = b < args_.blocks;
      if (there) narrow(from + b * width_.dim, 1.f, reinterpret_cast<Element*>(row), width_.dim);
      const int64_t filled = there ? width_.dim * static_cast<int64_t>(sizeof(Element)) : 0;
      __builtin_memset(row + filled, 0, static_cast<size_t>(row_bytes - filled));
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
    transpose_rows(width_, rows_as_units(width_, q, args_.q.row_stride, count, s_.rows), s_.query);
    const int64_t columns = (count + 15) / 16 * 16;
    for (int64_t b = 0; b < highest_limit_; b += tile) {
      const int64_t left = highest_limit_ - b, blocks = left < tile ? left : tile;
      product<Op>(blocks, columns, width_.units, Left{s_.sums + b * width_.units16, width_.units16, 1},
                  Right{s_.query, tile}, s_.scores, tile, false);
      for (int64_t c = 0; c < columns; c += lanes) keep_best(b, blocks, c, chosen);
    }
  }

  void keep_best(int64_t first, int64_t blocks, int64_t c, int32_t* chosen) {
    const IntVec limits = load(s_.limits + c);
    float* last = s_.best + (args_.count - 1) * tile + c;
    for (int64_t b = 0; b < blocks; ++b) {
      Vec score = load(s_.scores + b * tile + c);
      IntVec index = broadcast(static_cast<int32_t>(first + b));
      if (first + b >= lowest_limit_) score = select(index < limits, score, broadcast(-__builtin_inff()));
      if (!any_greater(score, load(last))) continue;
      for (int64_t n = 0; n < args_.count; ++n) {
        float* best = s_.best + n * tile + c;
        int32_t* at = chosen + n * tile + c;
        const Vec other = load(best);
        const IntVec other_index = load(at), better = score > other;
        store(best, select(better, score, other));
        const IntVec kept = (better & index) | (~better & other_index);
        __builtin_memcpy(at, &kept, sizeof kept);
        score = select(better, other, score);
        index = (better & other_index) | (~better & index);
      }
    }
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
    RouteScratch<HalfOperand>(carver, Width<HalfOperand>(args.dims.head_dim), args);
  else
    RouteScratch<FloatOperand>(carver, Width<FloatOperand>(args.dims.head_dim), args);
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
void add_rows(const T* from, int64_t stride, int64_t first, int64_t rows, int64_t head_dim, int64_t block,
              float* sums) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = from + r * stride;
    float* sum = sums + (first + r) / block * head_dim;
    const bool begins = (first + r) % block == 0;
    int64_t d = 0;
    for (; d + lanes <= head_dim; d += lanes)
      store(sum + d, begins ? load_wide(row + d) : load(sum + d) + load_wide(row + d));
    for (; d < head_dim; ++d) sum[d] = begins ? widen(row[d]) : sum[d] + widen(row[d]);
  }
}

}  // namespace

void sum_keys(const ConstHeadRows& k, int64_t sequence, int64_t head, int64_t first, int64_t rows, int64_t head_dim,
              int64_t block, float* sums) {
  if (k.dtype == DType::bf16)
    add_rows(rows_of<bf16>(k, sequence, 0, head), k.row_stride, first, rows, head_dim, block, sums);
  else
    add_rows(rows_of<float>(k, sequence, 0, head), k.row_stride, first, rows, head_dim, block, sums);
}

}  // namespace hone::kernels::HONE_ISA
