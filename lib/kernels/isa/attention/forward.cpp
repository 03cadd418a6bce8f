// Forward tiles. Scores are kept transposed, keys x queries: a query is a lane, so that maxima, sums and the scaling of
// the output go down the rows and never across a vector, and K is read as it lies in memory.
#include "kernels/isa/attention/functions.h"
#include "kernels/isa/attention/gathered.h"

namespace hone::kernels::HONE_ISA {
namespace {

// Rescaling the output waits until a maximum has grown by this many powers of two: probabilities stay below 2^8 times
// their final value, and the division by their sum at the end takes it out again.
constexpr float slack = 8;

template <class Op>
struct ForwardScratch {
  // One for each slot, and a spare one where tiles are gathered: rows [tile][units16]; row pairs
  // [tile / per_unit][padded].
  Unit *keys, *values;
  Unit *rows, *query;                 // rows of any operand; the query block transposed
  Unit* probabilities;                // [tile / per_unit][tile], neighbouring keys in a unit
  float *scores, *sums;               // [tile][tile] keys x queries; [padded][tile] output, transposed
  float *tops, *totals;               // [tile] running maximum (in powers of two) and sum
  float *factors, *gathered_factors;  // [tile] of the sums here and of the gathered ones, at the end
  float* out_rows;                    // [tile][padded]

  ForwardScratch(Carver& carver, const Width<Op>& width, const AttentionArgs& args, const ForwardItem& item)
      : ForwardScratch(carver, width, item.slot_count + (args.gathered ? 1 : 0)) {}

 private:
  ForwardScratch(Carver& carver, const Width<Op>& width, int64_t slots)
      : keys(carver.take<Unit>(slots * tile * width.units16)),
        values(carver.take<Unit>(slots * tile * width.units)),
        rows(carver.take<Unit>(tile * width.units16)),
        query(carver.take<Unit>(tile * width.units16)),
        probabilities(carver.take<Unit>(tile * tile / Op::per_unit)),
        scores(carver.take<float>(tile * tile)),
        sums(carver.take<float>(tile * width.padded)),
        tops(carver.take<float>(tile)),
        totals(carver.take<float>(tile)),
        factors(carver.take<float>(tile)),
        gathered_factors(carver.take<float>(tile)),
        out_rows(carver.take<float>(tile * width.padded)) {}
};

template <class Op, class T>
class Forward {
 public:
  Forward(const AttentionArgs& args, const ForwardItem& item)
      : args_(args), item_(item), width_(args.dims.head_dim), carver_(item.scratch), s_(carver_, width_, args, item) {}

  void run() {
    const int64_t in_group = args_.dims.heads / args_.dims.kv_heads;
    if (args_.gathered) {
      GatheredForward<Op, T> gathered(args_, item_, width_, carver_, ahead_);
      for (int64_t h = item_.kv_head * in_group; h < (item_.kv_head + 1) * in_group; ++h) {
        ahead_.clear();
        gathered.run(h, [&](int64_t j, const Unit*& keys, const Unit*& values) {
          const int64_t slot = packed_for_gathered(j, in_group > 1);
          keys = s_.keys + slot * tile * width_.units16;
          values = s_.values + slot * tile * width_.units;
        });
        for (int64_t i = item_.begin; i < item_.end; ++i) query_block(h, i, &gathered.sums());
      }
      return;
    }
    for (int64_t i = item_.begin; i < item_.end; ++i)
      for (int64_t h = 0; h < in_group; ++h) {
        ahead_.clear();
        if (h + 1 < in_group)
          look_ahead(item_, item_.kv_head * in_group + h + 1, i, false);
        else if (i + 1 < item_.end)
          look_ahead(item_, item_.kv_head * in_group, i + 1, false);
        else if (item_.next)
          look_ahead(*item_.next, item_.next->kv_head * in_group, item_.next->begin, true);
        query_block(item_.kv_head * in_group + h, i, nullptr);
      }
  }

 private:
  const int64_t* starts_of(int64_t sequence, int64_t head) const {
    const int64_t list = args_.lists == 1 ? 0 : sequence * args_.dims.heads + head;
    return args_.by_query.starts + list * (args_.by_query.blocks + 1);
  }

  void look_ahead_keys(const ForwardItem& item, int64_t j) {
    const auto& dims = args_.dims;
    const int64_t keys = dims.keys - j * tile < tile ? dims.keys - j * tile : tile;
    ahead_.read(rows_of<T>(args_.k, item.sequence, j * tile, item.kv_head), args_.k.row_stride, keys, dims.head_dim);
    ahead_.read(rows_of<T>(args_.v, item.sequence, j * tile, item.kv_head), args_.v.row_stride, keys, dims.head_dim);
  }

  // Lines up the keys that will be packed next behind block j, whose gathered tiles are about to be computed.
  void look_ahead_behind(int64_t j) {
    ahead_.clear();
    while (++j < args_.by_key.blocks)
      if (item_.slots[j] < 0) return look_ahead_keys(item_, j);
  }

  // Lines up what query block i of an item will touch first; `fresh`: no key block of it has been packed.
  void look_ahead(const ForwardItem& item, int64_t head, int64_t i, bool fresh) {
    const auto& dims = args_.dims;
    const int64_t queries = dims.queries - i * tile < tile ? dims.queries - i * tile : tile;
    ahead_.read(rows_of<T>(args_.q, item.sequence, i * tile, head), args_.q.row_stride, queries, dims.head_dim);
    const int64_t* starts = starts_of(item.sequence, head);
    int found = 0;
    for (int64_t v = fresh ? starts[i] : starts[i + 1] - 1; v >= starts[i] && v < starts[i + 1] && found < 2;
         v += fresh ? 1 : -1) {
      const int64_t j = args_.by_query.visits[v].block;
      if (!fresh && item_.slots[j] >= 0) break;
      look_ahead_keys(item, j);
      ++found;
    }
    ahead_.write(rows_of<T>(args_.out_written, item.sequence, i * tile, head), args_.out_written.row_stride, queries,
                 dims.head_dim);
  }

  void query_block(int64_t head, int64_t i, const GatheredSums<Op>* gathered) {
    const auto& dims = args_.dims;
    const int64_t count = dims.queries - i * tile < tile ? dims.queries - i * tile : tile;
    const int columns = static_cast<int>((count + 15) / 16 * 16);
    const T* q = rows_of<T>(args_.q, item_.sequence, i * tile, head);
    transpose_rows(width_, rows_as_units(width_, q, args_.q.row_stride, count, s_.rows), s_.query);
    for (int64_t c = 0; c < tile; ++c) s_.tops[c] = lowest_top, s_.totals[c] = 0;
    started_ = false;

    const int64_t* starts = starts_of(item_.sequence, head);
    TileMask mask;
    for (int64_t v = starts[i]; v < starts[i + 1]; ++v) {
      const BlockVisit& visit = args_.by_query.visits[v];
      if (visit.gathered) continue;
      if (visit.partial)
        see(mask, args_, i, visit.block, visit.queries, columns);
      else
        see_all(mask, columns);
      visit_block(head, i, visit.block, mask, columns);
    }
    write(head, i, count, gathered);
  }

  // The slot of a key block, packed on its first visit.
  int64_t packed(int64_t j) {
    int32_t& slot = item_.slots[j];
    if (slot >= 0) return slot;
    slot = next_slot_++;
    pack(j, slot);
    return slot;
  }

  // The slot of a key block for gathered tiles, which are done with it before they come to another. Those of a single
  // head all use the spare slot, which stays in the cache: the blocks of a long text, packed side by side, would not.
  // Several heads share what was packed.
  int64_t packed_for_gathered(int64_t j, bool shared) {
    const bool there = shared ? item_.slots[j] >= 0 : in_spare_ == j;
    const int64_t slot = shared ? packed(j) : item_.slot_count;
    if (there) return slot;
    if (!shared) pack(j, slot);
    in_spare_ = j;
    look_ahead_behind(j);
    return slot;
  }

  void pack(int64_t j, int64_t slot) {
    const int64_t left = args_.dims.keys - j * tile, count = left < tile ? left : tile;
    pack_rows<Op>(width_, rows_of<T>(args_.k, item_.sequence, j * tile, item_.kv_head), args_.k.row_stride, count,
                  s_.keys + slot * tile * width_.units16);
    const T* v = rows_of<T>(args_.v, item_.sequence, j * tile, item_.kv_head);
    interleave_rows(width_, rows_as_units(width_, v, args_.v.row_stride, count, s_.rows),
                    s_.values + slot * tile * width_.units);
  }

  void visit_block(int64_t head, int64_t i, int64_t j, const TileMask& mask, int columns) {
    const int64_t slot = packed(j);
    const Unit* keys = s_.keys + slot * tile * width_.units16;
    for (int g = 0, next; g < groups; g = next) {
      next = same_columns(mask, g);
      if (mask.begin[g] == mask.end[g]) continue;
      ahead_.step(RowsAhead::some);
      product<Op>((next - g) * group, mask.end[g] - mask.begin[g], width_.units,
                  Left{keys + g * group * width_.units16, width_.units16, 1}, Right{s_.query + mask.begin[g], tile},
                  s_.scores + g * group * tile + mask.begin[g], tile, false);
      change_scores(args_.dims.score,
                    {s_.scores + g * group * tile + mask.begin[g], (next - g) * group, mask.end[g] - mask.begin[g],
                     tile, args_.dims.scale, head, query_positions(args_, i * tile + mask.begin[g]),
                     key_positions(args_, j * tile + g * group)});
    }
    for (int g = 0; g < groups; ++g) hide(mask, g, s_.scores + g * group * tile);
    for (int c = 0; c < columns; c += lanes) {
      ahead_.step(RowsAhead::some);
      raise_tops(mask, c);
      exponentiate(mask, c);
    }
    const Unit* values = s_.values + slot * tile * width_.units;
    for (int g = 0, next; g < groups; g = next) {
      next = same_columns(mask, g);
      if (mask.begin[g] == mask.end[g]) continue;
      ahead_.step(RowsAhead::some);
      const bool add = started_ || mask.end[g] - mask.begin[g] < columns;
      if (add && !started_) clear_sums();
      started_ = true;
      const int64_t from = g * group / Op::per_unit;
      product<Op>(width_.dim, mask.end[g] - mask.begin[g], (next - g) * group / Op::per_unit,
                  Left{values + from * width_.padded, 1, width_.padded},
                  Right{s_.probabilities + from * tile + mask.begin[g], tile}, s_.sums + mask.begin[g], tile, add);
    }
  }

  static bool sees(const TileMask& mask, int g, int c) { return mask.begin[g] <= c && c < mask.end[g]; }

  void raise_tops(const TileMask& mask, int c) {
    Vec largest[4];
    for (auto& v : largest) v = broadcast(-__builtin_inff());
    for (int g = 0; g < groups; ++g) {
      if (!sees(mask, g, c)) continue;
      const float* scores = s_.scores + g * group * tile + c;
      for (int r = 0; r < group; r += 4)
        for (int u = 0; u < 4; ++u) largest[u] = max(largest[u], load(scores + (r + u) * tile));
    }
    const Vec top = load(s_.tops + c);
    const Vec block_top = max(max(largest[0], largest[1]), max(largest[2], largest[3])) * (args_.dims.scale * log2_e);
    if (!any_greater(block_top, top + slack)) return;
    const Vec raised = max(top, block_top);
    store(s_.tops + c, raised);
    if (!started_) return;  // the sums have no values yet
    const Vec factor = exp2<5>(top - raised);
    store(s_.totals + c, load(s_.totals + c) * factor);
    for (int64_t d = 0; d < width_.dim; ++d) store(s_.sums + d * tile + c, load(s_.sums + d * tile + c) * factor);
  }

  void exponentiate(const TileMask& mask, int c) {
    const Vec top = load(s_.tops + c);
    const float scale = args_.dims.scale * log2_e;
    Vec total_even = load(s_.totals + c), total_odd{};
    for (int g = 0; g < groups; ++g) {
      if (!sees(mask, g, c)) continue;
      for (int r = g * group; r < (g + 1) * group; r += 2) {
        const float* scores = s_.scores + r * tile + c;
        const Vec even = exp2<Op::exp_degree>(load(scores) * scale - top);
        const Vec odd = exp2<Op::exp_degree>(load(scores + tile) * scale - top);
        total_even += even;
        total_odd += odd;
        Op::store_row_pair(s_.probabilities + r / Op::per_unit * tile + c, tile, even, odd);
      }
    }
    store(s_.totals + c, total_even + total_odd);
  }

  void clear_sums() { __builtin_memset(s_.sums, 0, static_cast<size_t>(width_.padded * tile) * sizeof(float)); }

  void write(int64_t head, int64_t i, int64_t count, const GatheredSums<Op>* gathered) {
    if (!started_) clear_sums();
    T* to = rows_of<T>(args_.out_written, item_.sequence, i * tile, head);
    if (gathered) {
      const int64_t first = (i - item_.begin) * tile;
      for (int64_t c = 0; c < tile; c += lanes) merge(c, *gathered, first + c);
      write_columns(width_, s_.sums, s_.factors, count, to, args_.out_written.row_stride, s_.out_rows,
                    gathered->rows + first * width_.padded, s_.gathered_factors);
    } else {
      for (int64_t c = 0; c < tile; ++c) s_.factors[c] = s_.totals[c] > 0 ? 1 / s_.totals[c] : 0;
      write_columns(width_, s_.sums, s_.factors, count, to, args_.out_written.row_stride, s_.out_rows);
    }
    if (!args_.lse_written) return;
    float* lse = args_.lse_written + (item_.sequence * args_.dims.heads + head) * args_.dims.queries + i * tile;
    for (int64_t c = 0; c < count; ++c)
      lse[c] = s_.totals[c] > 0 ? (s_.tops[c] + __builtin_log2f(s_.totals[c])) * ln_2 : lowest_top;
  }

  // The softmax over what this block saw and what the gathered tiles saw for `lanes` of its queries.
  void merge(int64_t c, const GatheredSums<Op>& gathered, int64_t at) {
    const Vec top = load(s_.tops + c), other = load(gathered.tops + at), both = max(top, other);
    // 1 to the bit for a query of which the gathered tiles saw nothing: it is as in a call without such tiles.
    const Vec own_factor = select(other > top, exp2<5>(top - both), broadcast(1.0f));
    const Vec other_factor = exp2<5>(other - both);
    const Vec total = load(s_.totals + c) * own_factor + load(gathered.totals + at) * other_factor;
    const Vec inverse = select(total > Vec{}, 1.f / total, Vec{});
    store(s_.factors + c, own_factor * inverse);
    store(s_.gathered_factors + c, other_factor * inverse);
    store(s_.tops + c, both);
    store(s_.totals + c, total);
  }

  const AttentionArgs& args_;
  const ForwardItem& item_;
  Width<Op> width_;
  Carver carver_;
  ForwardScratch<Op> s_;
  RowsAhead ahead_;
  int32_t next_slot_ = 0;
  int64_t in_spare_ = -1;  // the key block there
  bool started_ = false;   // the sums of this query block have been written
};

}  // namespace

namespace {

template <class Op, class T>
size_t scratch_of(const AttentionArgs& args, const ForwardItem& item) {
  Carver carver(nullptr);
  const Width<Op> width(args.dims.head_dim);
  ForwardScratch<Op>(carver, width, args, item);
  RowsAhead none;
  if (args.gathered) GatheredForward<Op, T>(args, item, width, carver, none);
  return carver.used();
}

}  // namespace

size_t forward_scratch(const AttentionArgs& args, const ForwardItem& item) {
  return args.q.dtype == DType::bf16 ? scratch_of<HalfOperand, bf16>(args, item)
                                     : scratch_of<FloatOperand, float>(args, item);
}

void forward(const AttentionArgs& args, const ForwardItem& item) {
  if (args.q.dtype == DType::bf16)
    Forward<HalfOperand, bf16>(args, item).run();
  else
    Forward<FloatOperand, float>(args, item).run();
}

}  // namespace hone::kernels::HONE_ISA
