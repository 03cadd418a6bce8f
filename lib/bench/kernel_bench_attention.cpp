// The attention of `bench --kernels`.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "bench/kernel_bench_cases.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/route.h"

namespace hone::kernel_bench {
namespace {

using kernels::CacheCode;

struct AttentionArrays {
  kernels::AttentionDims dims;
  Tensor q, k, v, out, d_out, dq, dk, dv, log_sums;
  std::shared_ptr<const kernels::BlockPlan> plan;

  AttentionArrays(int64_t length, DType type) : plan(kernels::causal_plan({length, length, 0})) {
    dims.queries = dims.keys = length;
    dims.heads = dims.kv_heads = heads;
    dims.head_dim = head_dim;
    dims.scale = 0.125f;
    for (Tensor* t : {&q, &k, &v, &d_out}) *t = random_tensor({length, dim}, type);
    for (Tensor* t : {&out, &dq, &dk, &dv}) *t = Tensor::empty({length, dim}, type);
    log_sums = Tensor::empty({heads, length});
  }
  static kernels::HeadRows rows(const Tensor& t) { return {t.raw(), t.dtype(), t.size(), dim, head_dim}; }
  void forward() const {
    kernels::attention_forward(dims, rows(q), rows(k), rows(v), rows(out), log_sums.data<float>(), *plan);
  }
  void backward() const {
    kernels::attention_backward(dims, rows(q), rows(k), rows(v), rows(out), log_sums.data<float>(), rows(d_out),
                                {rows(dq), rows(dk), rows(dv)}, *plan);
  }
  // Of one product over the visible pairs.
  double product() const { return 2.0 * static_cast<double>(plan->visible_pairs) * heads * head_dim; }
};

template <DType type, int64_t length>
KernelCase attention_forward() {
  const auto arrays = std::make_shared<AttentionArrays>(length, type);
  return {type, 2 * arrays->product(), 0, [arrays] { arrays->forward(); }};
}

// Five products: the scores again, and the gradients by scores, queries, keys and values.
template <DType type, int64_t length>
KernelCase attention_backward() {
  const auto arrays = std::make_shared<AttentionArrays>(length, type);
  arrays->forward();
  return {type, 5 * arrays->product(), 0, [arrays] { arrays->backward(); }};
}

// --- the choice of blocks ---

constexpr int64_t route_block = 64, route_count = 8;

// For each query of a prompt the best of the blocks before its own. A score is a product of twice head_dim.
template <int64_t length>
KernelCase attention_route() {
  constexpr int64_t blocks = length / route_block;
  const Tensor q = random_tensor({length, dim}, DType::bf16), k = random_tensor({length, dim}, DType::bf16);
  const Tensor summaries = Tensor::empty({heads, blocks, kernels::KeySummaries::rows, head_dim});
  kernels::summarize_keys(AttentionArrays::rows(k), 0, heads, head_dim, 0, length, route_block, summaries.data<float>(),
                          blocks * kernels::KeySummaries::rows * head_dim);
  kernels::AttentionDims dims;
  dims.queries = dims.keys = length;
  dims.heads = dims.kv_heads = heads;
  dims.head_dim = head_dim;
  const auto chosen = std::make_shared<std::vector<int32_t>>();
  const double scores = 0.5 * heads * route_block * blocks * (blocks - 1);
  return {DType::bf16, 2 * 2 * head_dim * scores, 0, [=] {
            kernels::route(dims, AttentionArrays::rows(q),
                           kernels::KeySummaries::of(summaries.data<float>(), heads, blocks, head_dim),
                           {.block = route_block, .count = route_count}, *chosen);
          }};
}

// --- decoding, which reads memory ---

// Keys, or values, of `sequences` caches with room for `capacity` rows a head, which lie together: bf16, or codes and
// their scales. Of codes each sequence has the first one's.
struct Caches {
  CacheCode code;
  int64_t capacity;
  int64_t row;  // elements
  Tensor rows, scales;

  Caches(CacheCode c, int64_t sequences, int64_t room)
      : code(c), capacity(room), row(c == CacheCode::none ? head_dim : kernels::code_row_bytes(c, head_dim)) {
    if (code == CacheCode::none) {
      rows = random_tensor({sequences, heads, capacity, head_dim}, DType::bf16);
      return;
    }
    rows = Tensor::empty({sequences, heads * capacity * row}, DType::u8);
    scales = Tensor::empty({sequences, heads * capacity}, DType::bf16);
    const Tensor plain = random_tensor({heads, capacity, head_dim}, DType::bf16);
    kernels::encode_cache({plain.raw(), plain.dtype(), plain.size(), head_dim, capacity * head_dim},
                          {code, rows_from(0), scales_from(0)}, 0, capacity, heads, head_dim);
    for (const Tensor* t : {&rows, &scales}) {
      std::byte* const first = t->raw();
      const int64_t bytes = t->bytes() / sequences;
      for (int64_t i = 1; i < sequences; ++i) std::copy_n(first, bytes, first + i * bytes);
    }
  }
  kernels::HeadRows rows_from(int64_t sequence) const {
    return starting_at(kernels::HeadRows{rows.raw(), rows.dtype(), heads * capacity * row, row, capacity * row},
                       sequence, 0);
  }
  kernels::HeadRows scales_from(int64_t sequence) const {
    return code == CacheCode::none
               ? kernels::HeadRows()
               : starting_at(kernels::HeadRows{scales.raw(), scales.dtype(), heads * capacity, 1, capacity}, sequence,
                             0);
  }
};

// What decoding reads of a row of keys, or of values, of all heads.
int64_t bytes_of_row(CacheCode code) {
  constexpr int64_t plain = 2 * head_dim, scale = 2;
  return heads * (code == CacheCode::none ? plain : kernels::code_row_bytes(code, head_dim) + scale);
}

// One token of `batch` sequences (0: as many as make the caches large) through as many layers as that takes, against
// `length` rows each in caches with room for `capacity`.
KernelCase attention_decode(CacheCode code, int64_t batch, int64_t length, int64_t capacity) {
  const int64_t wanted = std::max<int64_t>(1, large_bytes() / (2 * length * bytes_of_row(code)));
  const int64_t layers = batch ? (wanted + batch - 1) / batch : 1, sequences = batch ? batch : wanted;
  const Tensor q = random_tensor({sequences, dim}, DType::bf16), out = Tensor::empty({sequences, dim}, DType::bf16);
  const auto k = std::make_shared<Caches>(code, layers * sequences, capacity),
             v = std::make_shared<Caches>(code, layers * sequences, capacity);
  const auto lengths = std::make_shared<std::vector<int64_t>>(static_cast<size_t>(sequences), length);
  kernels::DecodeDims dims;
  dims.batch = sequences;
  dims.heads = dims.kv_heads = heads;
  dims.head_dim = head_dim;
  dims.scale = 0.125f;
  dims.code = code;
  const auto token = [](const Tensor& t) { return kernels::HeadRows{t.raw(), t.dtype(), dim, dim, head_dim}; };
  const double bytes = 2.0 * static_cast<double>(layers * sequences * length * bytes_of_row(code));
  return {DType::bf16, 0, bytes, [=] {
            for (int64_t i = 0; i < layers; ++i) {
              kernels::DecodeDims call = dims;
              call.key_lengths = lengths->data();
              call.k_scales = k->scales_from(i * sequences);
              call.v_scales = v->scales_from(i * sequences);
              kernels::attention_decode(call, token(q), k->rows_from(i * sequences), v->rows_from(i * sequences),
                                        token(out));
            }
          }};
}

const KernelEntry table[] = {
    {"attention_forward", "12 heads x 256 x 64 bf16", false, attention_forward<DType::bf16, 256>},
    {"attention_forward", "12 heads x 1024 x 64 bf16", false, attention_forward<DType::bf16, 1024>},
    {"attention_forward", "12 heads x 1024 x 64 f32", false, attention_forward<DType::f32, 1024>},
    {"attention_backward", "12 heads x 256 x 64 bf16", false, attention_backward<DType::bf16, 256>},
    {"attention_backward", "12 heads x 1024 x 64 bf16", false, attention_backward<DType::bf16, 1024>},
    {"attention_backward", "12 heads x 1024 x 64 f32", false, attention_backward<DType::f32, 1024>},
    {"attention_route", "12 heads x 8192 x 64 bf16, 7 of the blocks of 64", false, attention_route<8192>},
};

KernelEntry decode_entry(CacheCode code, int64_t batch, int64_t length, int64_t capacity) {
  const std::string_view type = code == CacheCode::none ? "bf16" : kernels::info_of(code).name;
  const std::string rows = length == capacity ? fmt::format("{}", length) : fmt::format("{} of {}", length, capacity);
  return {"attention_decode",
          fmt::format("{} heads x {} x {} {}, {}", heads, rows, head_dim, type,
                      batch ? fmt::format("{} sequences", batch) : "many sequences"),
          false, [=] { return attention_decode(code, batch, length, capacity); }};
}

}  // namespace

void add_attention_entries(std::vector<KernelEntry>& to) {
  to.insert(to.end(), std::begin(table), std::end(table));
  to.push_back(decode_entry(CacheCode::none, 0, 1024, 1024));
  for (const CacheCode code : kernels::all_cache_codes) to.push_back(decode_entry(code, 0, 1024, 1024));
  to.push_back(decode_entry(CacheCode::none, 8, 96, 256));
}

}  // namespace hone::kernel_bench
