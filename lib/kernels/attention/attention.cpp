#include "kernels/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "base/error.h"
#include "kernels/isa/kernel_set.h"
#include "kernels/parallel.h"
#include "kernels/scratch.h"
#include "kernels/view.h"

namespace hone::kernels {

namespace {

thread_local Scratch item_scratch;    // of the kernels
thread_local Scratch marks_scratch;   // slots of key blocks
thread_local Scratch sums_scratch;    // dq, and sums of dk and dv, of one item
thread_local Scratch shared_scratch;  // of the calling thread, for all items

void check(bool fits, const char* what, const AttentionDims& d) {
  if (!fits)
    throw internal_error("attention: {} (batch {}, queries {} at {}, keys {}, heads {} of {}, head_dim {}, scale {})",
                         what, d.batch, d.queries, d.query_offset, d.keys, d.heads, d.kv_heads, d.head_dim, d.scale);
}

// Whether the score has a number that its kind can have, and knows the heads of a call that are told apart.
bool fits(const ScoreRule& score, int64_t heads) {
  if (score.kind == ScoreKind::plain) return true;
  const ScoreKindInfo& info = info_of(score.kind);
  return score.number >= info.least &&
         (!info.by_head || (score.first_head >= 0 && score.first_head + heads <= score.heads));
}

AttentionArgs checked_args(const AttentionDims& dims, const ConstHeadRows& q, const ConstHeadRows& k,
                           const ConstHeadRows& v, const BlockPlan& plan) {
  check(dims.batch >= 0 && dims.head_dim > 0 && dims.kv_heads > 0 && dims.heads > 0, "empty dimensions", dims);
  check(dims.heads % dims.kv_heads == 0, "heads is not a multiple of kv_heads", dims);
  check(dims.scale > 0, "scale must be above 0", dims);
  check(fits(dims.score, dims.heads), "the score has no such number or heads", dims);
  check((q.dtype == DType::f32 || q.dtype == DType::bf16) && k.dtype == q.dtype && v.dtype == q.dtype,
        "q, k and v must all be f32 or all bf16", dims);
  check(plan.shape == PlanShape{dims.queries, dims.keys, dims.query_offset}, "the plan is of another shape", dims);
  check(plan.lists == 1 || plan.lists == dims.batch * dims.heads, "the plan has neither one list nor one for each head",
        dims);
  AttentionArgs args;
  args.dims = dims;
  args.q = q;
  args.k = k;
  args.v = v;
  args.by_query = {plan.query_starts.data(), plan.by_query.data(), plan.query_blocks};
  args.by_key = {plan.key_starts.data(), plan.by_key.data(), plan.key_blocks};
  args.lists = plan.lists;
  args.key_positions = plan.key_positions.empty() ? nullptr : plan.key_positions.data();
  args.seen_from = plan.seen_from.empty() ? nullptr : plan.seen_from.data();
  args.window = plan.rule.window;
  args.sinks = plan.rule.sinks;
  args.causal = plan.rule.causal;
  args.gathered = plan.gathered;
  return args;
}

// Query blocks of an item whose unfinished rows are added to here and there: 1 MB at a head_dim of 64.
constexpr int64_t most_gathered_blocks = 64;

// How many parts to cut each of `pairs` (sequence, key/value head) into: several a thread for balance, but none of less
// than 8 blocks, so that packing keys again for each part stays cheap.
int64_t parts_of(int64_t pairs, int64_t blocks, int64_t wanted) {
  return std::clamp((wanted + pairs - 1) / pairs, int64_t{1}, std::max<int64_t>(blocks / 8, 1));
}

// Calls f(index, whether index + 1 follows on this thread) for each of n items, handed out in short runs: several a
// thread.
template <class F>
void parallel_runs(int64_t n, F&& f) {
  const int64_t length = std::max<int64_t>(n / (8 * threads()), 1);
  parallel_each((n + length - 1) / length, [&](int64_t run) {
    const int64_t end = std::min((run + 1) * length, n);
    for (int64_t index = run * length; index < end; ++index) f(index, index + 1 < end);
  });
}

// Sets slots of the key blocks that the item's query heads visit to -1 and returns their number.
int64_t mark_slots(const AttentionArgs& args, const ForwardItem& item, int32_t* slots) {
  std::fill_n(slots, args.by_key.blocks, 0);
  const int64_t in_group = args.dims.heads / args.dims.kv_heads;
  int64_t count = 0;
  for (int64_t h = 0; h < (args.lists == 1 ? 1 : in_group); ++h) {
    const int64_t list = args.lists == 1 ? 0 : item.sequence * args.dims.heads + item.kv_head * in_group + h;
    const int64_t* starts = args.by_query.starts + list * (args.by_query.blocks + 1);
    for (int64_t v = starts[item.begin]; v < starts[item.end]; ++v) {
      int32_t& slot = slots[args.by_query.visits[v].block];
      count += slot == 0;
      slot = -1;
    }
  }
  return count;
}

}  // namespace

void attention_forward(const AttentionDims& dims, ConstHeadRows q, ConstHeadRows k, ConstHeadRows v, HeadRows out,
                       float* log_sum_exp, const BlockPlan& plan) {
  AttentionArgs args = checked_args(dims, q, k, v, plan);
  check(out.dtype == q.dtype, "out must have the type of q", dims);
  args.out_written = out;
  args.lse_written = log_sum_exp;
  const int64_t pairs = dims.batch * dims.kv_heads, blocks = plan.query_blocks;
  if (pairs == 0 || blocks == 0) return;
  // Gathered tiles are the fuller the more queries an item has, and every item packs nearly all blocks of keys.
  const int64_t wanted = (plan.gathered ? 4 : 8) * threads();
  int64_t parts = threads() == 1 ? 1 : parts_of(pairs, blocks, wanted);
  if (plan.gathered) parts = std::max(parts, (blocks + most_gathered_blocks - 1) / most_gathered_blocks);
  const AttentionKernels& kernels = kernel_set().attention;
  const auto item_at = [&](int64_t index) {
    const int64_t part = parts - 1 - index / pairs, pair = index % pairs;  // the last parts see most keys: first
    return ForwardItem{pair / dims.kv_heads, pair % dims.kv_heads, blocks * part / parts, blocks * (part + 1) / parts};
  };
  parallel_runs(pairs * parts, [&](int64_t index, bool more) {
    ForwardItem item = item_at(index), next;
    if (more) next = item_at(index + 1);
    item.next = more ? &next : nullptr;
    item.slots = marks_scratch.array<int32_t>(plan.key_blocks);
    item.slot_count = mark_slots(args, item, item.slots);
    item.scratch = item_scratch.at_least(kernels.forward_scratch(args, item));
    kernels.forward(args, item);
  });
}

void attention_backward(const AttentionDims& dims, ConstHeadRows q, ConstHeadRows k, ConstHeadRows v, ConstHeadRows out,
                        const float* log_sum_exp, ConstHeadRows d_out, const AttentionGradients& gradients,
                        const BlockPlan& plan) {
  AttentionArgs args = checked_args(dims, q, k, v, plan);
  for (DType type : {out.dtype, d_out.dtype, gradients.dq.dtype, gradients.dk.dtype, gradients.dv.dtype})
    check(type == q.dtype, "out and all gradients must have the type of q", dims);
  args.out = out;
  args.d_out = d_out;
  args.lse = log_sum_exp;
  args.dq = gradients.dq;
  args.dk = gradients.dk;
  args.dv = gradients.dv;
  const int64_t pairs = dims.batch * dims.kv_heads, in_group = dims.heads / dims.kv_heads;
  if (pairs == 0 || plan.key_blocks == 0) return;
  // With fewer pairs than threads the key blocks of a pair are dealt out too, each part with a dq of its own.
  const int64_t parts = pairs >= threads() ? 1 : parts_of(pairs, plan.key_blocks, 2 * threads());
  const int64_t padded = padded_head_dim(dims.head_dim);
  const int64_t dq_size = plan.query_blocks * attention_block * padded * (plan.gathered ? 2 : 1);
  const int64_t dkv_size = in_group > 1 ? plan.key_blocks * 2 * attention_block * padded : 0;
  float* shared_dq = parts > 1 ? shared_scratch.array<float>(dq_size * pairs * in_group * parts) : nullptr;
  const AttentionKernels& kernels = kernel_set().attention;
  const size_t scratch_bytes = kernels.backward_scratch(args);
  parallel_runs(pairs * parts, [&](int64_t index, bool more) {
    const int64_t pair = index / parts, part = index % parts, sequence = pair / dims.kv_heads;
    float* own = sums_scratch.array<float>(dkv_size + (shared_dq ? 0 : dq_size));
    void* scratch = item_scratch.at_least(scratch_bytes);
    for (int64_t g = 0; g < in_group; ++g) {
      const int64_t head = pair % dims.kv_heads * in_group + g;
      BackwardItem item{sequence, head, part, parts, shared_dq ? nullptr : own + dkv_size, dkv_size ? own : nullptr,
                        scratch};
      if (shared_dq) item.dq = shared_dq + ((pair * in_group + g) * parts + part) * dq_size;
      item.first = dkv_size == 0 || g == 0;
      item.last = dkv_size == 0 || g == in_group - 1;
      if (parts == 1 && (more || g + 1 < in_group)) {
        const int64_t next = pair * in_group + g + 1;
        item.next_sequence = next / dims.heads;
        item.next_head = next % dims.heads;
      }
      kernels.backward(args, item);
      if (!shared_dq) kernels.backward_finish(args, sequence, head, item.dq, 1, 0, scratch);
    }
  });
  if (!shared_dq) return;
  parallel_each(dims.batch * dims.heads, [&](int64_t index) {
    kernels.backward_finish(args, index / dims.heads, index % dims.heads, shared_dq + index * parts * dq_size, parts,
                            dq_size, item_scratch.at_least(scratch_bytes));
  });
}

namespace {

constexpr int64_t decode_part = 512;  // rows of a cache that one item reads

// What one item of a decode leaves for the combination.
struct DecodePart {
  float *sums, *tops, *totals;
};

template <class T>
void combine(const DecodeDims& dims, HeadRows out, int64_t sequence, int64_t kv_head, int64_t parts, bool rotated,
             auto&& part_at) {
  const int64_t in_group = dims.heads / dims.kv_heads, padded = padded_head_dim(dims.head_dim);
  for (int64_t r = 0; r < in_group * dims.queries; ++r) {
    float top = -1e30f, total = 0;
    for (int64_t p = 0; p < parts; ++p) top = std::max(top, part_at(p).tops[r]);
    for (int64_t p = 0; p < parts; ++p) total += part_at(p).totals[r] * std::exp2(part_at(p).tops[r] - top);
    T* row = static_cast<T*>(out.data) + sequence * out.batch_stride + r % dims.queries * out.row_stride +
             (kv_head * in_group + r / dims.queries) * out.head_stride;
    float* sum = part_at(0).sums + r * padded;
    for (int64_t p = 0; p < parts; ++p) {
      const float factor = total > 0 ? std::exp2(part_at(p).tops[r] - top) / total : 0;
      const float* from = part_at(p).sums + r * padded;
      for (int64_t d = 0; d < dims.head_dim; ++d) sum[d] = (p == 0 ? 0 : sum[d]) + from[d] * factor;
    }
    if (rotated) kernel_set().attention.rotate(sum, dims.head_dim);
    for (int64_t d = 0; d < dims.head_dim; ++d) {
      if constexpr (std::is_same_v<T, float>)
        row[d] = sum[d];
      else
        row[d] = to_bf16(sum[d]);
    }
  }
}

void check_decode(const DecodeDims& d, const ConstHeadRows& q, const ConstHeadRows& k, const ConstHeadRows& v,
                  const HeadRows& out) {
  const auto is_float = [](DType type) { return type == DType::f32 || type == DType::bf16; };
  if (d.queries < 1 || d.kv_heads < 1 || d.heads % d.kv_heads != 0 || d.head_dim < 1 || !(d.scale > 0) ||
      !d.key_lengths || !fits(d.score, d.heads) || !d.rule.causal ||
      (d.visits && (d.key_positions || d.queries * d.heads > 64 * d.kv_heads)) || !is_float(q.dtype) ||
      !(d.code == CacheCode::none ? is_float(k.dtype) : k.dtype == DType::u8 && d.k_scales.data && d.v_scales.data) ||
      out.dtype != q.dtype || v.dtype != k.dtype)
    throw internal_error("attention decode: queries {}, heads {} of {}, head_dim {}, scale {}, types {} {} {} {}",
                         d.queries, d.heads, d.kv_heads, d.head_dim, d.scale, name_of(q.dtype), name_of(k.dtype),
                         name_of(v.dtype), name_of(out.dtype));
}

}  // namespace

void attention_decode(const DecodeDims& dims, ConstHeadRows q, ConstHeadRows k, ConstHeadRows v, HeadRows out) {
  check_decode(dims, q, k, v, out);
  const int64_t pairs = dims.batch * dims.kv_heads;
  int64_t longest = 0;
  if (dims.visits)
    for (int64_t p = 0; p < pairs; ++p)
      longest = std::max(longest, (dims.visit_starts[p + 1] - dims.visit_starts[p]) * attention_block);
  else
    for (int64_t b = 0; b < dims.batch; ++b) longest = std::max(longest, dims.key_lengths[b]);
  const int64_t parts = std::max<int64_t>((longest + decode_part - 1) / decode_part, 1);
  const int64_t rows = dims.queries * dims.heads / dims.kv_heads, padded = padded_head_dim(dims.head_dim);
  const int64_t part_size = rows * (padded + 2);
  float* shared = shared_scratch.array<float>(pairs * parts * part_size);
  const auto part_at = [&](int64_t pair, int64_t part) {
    float* base = shared + (pair * parts + part) * part_size;
    return DecodePart{base, base + rows * padded, base + rows * (padded + 1)};
  };
  const DecodeArgs args{dims.queries,
                        dims.heads,
                        dims.kv_heads,
                        dims.head_dim,
                        dims.scale,
                        dims.rule.window,
                        dims.rule.sinks,
                        q,
                        k,
                        v,
                        dims.k_scales,
                        dims.v_scales,
                        dims.score,
                        dims.code};
  const AttentionKernels& kernels = kernel_set().attention;
  const size_t scratch_bytes = kernels.decode_scratch(args);
  const auto item_of = [&](int64_t index) {
    const int64_t pair = index / parts, part = index % parts, b = pair / dims.kv_heads, length = dims.key_lengths[b];
    const DecodePart to = part_at(pair, part);
    DecodeItem item;
    item.sequence = b;
    item.kv_head = pair % dims.kv_heads;
    item.end = length;
    item.query_position = dims.query_positions ? dims.query_positions[b] : length - dims.queries;
    item.key_sequence = dims.key_sequences ? dims.key_sequences[b] : b;
    item.key_positions = dims.key_positions ? dims.key_positions + b * dims.key_positions_stride : nullptr;
    item.sums = to.sums;
    item.tops = to.tops;
    item.totals = to.totals;
    if (dims.visits) {
      constexpr int64_t together = decode_part / attention_block;
      const int64_t count = dims.visit_starts[pair + 1] - dims.visit_starts[pair],
                    begin = std::min(part * together, count);
      item.visits = dims.visits + dims.visit_starts[pair] + begin;
      item.visit_count = std::min(together, count - begin);
    } else {
      item.begin = std::min(part * decode_part, length);
      item.end = std::min(item.begin + decode_part, length);
    }
    return item;
  };
  // Threads that take items in turn: each is `turn` items further on the next time, if they are as quick as each other.
  const int64_t items = pairs * parts, turn = in_parallel() ? 1 : threads();
  parallel_each(items, [&](int64_t index) {
    DecodeItem item = item_of(index), next;
    if (index + turn < items) {
      next = item_of(index + turn);
      item.next = &next;
    }
    item.scratch = item_scratch.at_least(scratch_bytes);
    kernels.decode(args, item);
  });
  // For one sequence too little for another loop of all threads.
  parallel_for(pairs, row_grain(8 * rows * parts * padded), [&](int64_t first, int64_t last) {
    for (int64_t pair = first; pair < last; ++pair)
      with_float_type(out.dtype, [&]<class T>(T*) {
        combine<T>(dims, out, pair / dims.kv_heads, pair % dims.kv_heads, parts, dims.code != CacheCode::none,
                   [&](int64_t part) { return part_at(pair, part); });
      });
  });
}

namespace {

// Calls f(head, first row, rows) for all rows of all heads, in pieces.
template <class F>
void for_pieces(int64_t heads, int64_t count, F&& f) {
  constexpr int64_t piece = 64;
  const int64_t pieces = (count + piece - 1) / piece;
  parallel_for(heads * pieces, std::max<int64_t>(1, 256 / std::min(count, piece)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      f(i / pieces, i % pieces * piece, std::min(piece, count - i % pieces * piece));
  });
}

CodeRows rows_at(const CodedRows& coded, int64_t head_dim, int64_t row, int64_t head) {
  return {coded.code, head_dim, static_cast<uint8_t*>(starting_at(coded.codes, 0, row, head).data),
          static_cast<bf16*>(starting_at(coded.scales, 0, row, head).data)};
}

}  // namespace

void encode_cache(ConstHeadRows from, const CodedRows& to, int64_t first, int64_t count, int64_t heads,
                  int64_t head_dim) {
  const AttentionKernels& kernels = kernel_set().attention;
  for_pieces(heads, count, [&](int64_t head, int64_t row, int64_t rows) {
    kernels.encode_rows(rows_at(to, head_dim, first + row, head), starting_at(from, 0, row, head), rows,
                        item_scratch.array<float>(padded_head_dim(head_dim)));
  });
}

void decode_cache(const CodedRows& from, int64_t first, HeadRows to, int64_t count, int64_t heads, int64_t head_dim) {
  const AttentionKernels& kernels = kernel_set().attention;
  for_pieces(heads, count, [&](int64_t head, int64_t row, int64_t rows) {
    kernels.decode_rows(rows_at(from, head_dim, first + row, head), starting_at(to, 0, row, head), rows,
                        item_scratch.array<float>(padded_head_dim(head_dim)));
  });
}

}  // namespace hone::kernels
