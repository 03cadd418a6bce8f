#include "base/cpu.h"
#include "base/error.h"
#include "kernels/attention/attention.h"
#include "kernels/awake.h"
#include "kernels/parallel.h"
#include "lib/kernels/attention/attention_case.h"
#include "support/isa.h"

using namespace hone;
using namespace hone::kernels;
using namespace hone::kernels::test;

namespace {

constexpr MaskRule rules[] = {{}, {.window = 24}, {.window = 70, .sinks = 3}};

// Caches of `capacity` rows, [batch, capacity, kv_heads, head_dim], and queries for them.
struct Cache {
  int64_t batch, capacity, queries, heads, kv_heads, head_dim;
  Buffer q, k, v, out, expected;

  Cache(DType q_type, DType kv_type, int64_t b, int64_t rows, int64_t queries_, int64_t h, int64_t kv, int64_t dim)
      : batch(b),
        capacity(rows),
        queries(queries_),
        heads(h),
        kv_heads(kv),
        head_dim(dim),
        q(q_type, b * queries_ * h * dim),
        k(kv_type, b * rows * kv * dim),
        v(kv_type, k.size()),
        out(q_type, q.size()),
        expected(q_type, q.size()) {
    Random random(5, "cache");
    q.randomize(random);
    k.randomize(random);
    v.randomize(random);
  }
  HeadRows query_rows(Buffer& b, int64_t sequence = 0) {
    const int64_t row = heads * head_dim;
    return b.rows(sequence * queries * row, queries * row, row, head_dim);
  }
  HeadRows key_rows(Buffer& b, int64_t sequence = 0) {
    const int64_t row = kv_heads * head_dim;
    return b.rows(sequence * capacity * row, capacity * row, row, head_dim);
  }
  DecodeDims dims(const MaskRule& rule, const std::vector<int64_t>& lengths) const {
    DecodeDims d;
    d.batch = batch;
    d.queries = queries;
    d.heads = heads;
    d.kv_heads = kv_heads;
    d.head_dim = head_dim;
    d.scale = 1 / std::sqrt(static_cast<float>(head_dim));
    d.rule = rule;
    d.key_lengths = lengths.data();
    return d;
  }
  void decode(const DecodeDims& d) {
    out.fill(99);
    attention_decode(d, query_rows(q), key_rows(k), key_rows(v), query_rows(out));
  }
  // Sequence by sequence: its first `length` rows, the queries at position `position`.
  void reference(int64_t sequence, const DecodeDims& d, int64_t length, int64_t position,
                 const std::vector<int32_t>& positions = {}) {
    AttentionDims a{1, queries, length, heads, kv_heads, head_dim, d.scale, position, d.score};
    attention_forward_reference(a, query_rows(q, sequence), key_rows(k, sequence), key_rows(v, sequence),
                                query_rows(expected, sequence), nullptr, reference_mask(a, d.rule, positions));
  }
};

double allowed(DType type) {
  return type == DType::f32 ? 1e-5 : 5e-3;
}

}  // namespace

TEST_CASE("decode equals the plain reference for caches of different lengths") {
  int64_t turn = 0;
  for (Isa level : hone::test::isa_levels_tested())
    for (DType q_type : {DType::f32, DType::bf16})
      for (DType kv_type : {DType::f32, DType::bf16})
        for (int64_t head_dim : {16, 40, 64, 72, 128}) {
          ++turn;  // four a width: under the sanitizers one rule each, in turn
          for (const MaskRule& rule : rules) {
            if (!hone::test::takes_turn(turn++, 3)) continue;
            set_isa(level);
            CAPTURE(name_of(level));
            CAPTURE(name_of(kv_type));
            CAPTURE(head_dim);
            CAPTURE(rule.window);
            const std::vector<int64_t> lengths = {1, 65, 200};
            Cache cache(q_type, kv_type, 3, 200, 1, head_dim == 64 ? 7 : 2, 1, head_dim);
            const DecodeDims dims = cache.dims(rule, lengths);
            cache.decode(dims);
            for (int64_t b = 0; b < 3; ++b)
              cache.reference(b, dims, lengths[static_cast<size_t>(b)], lengths[static_cast<size_t>(b)] - 1);
            CHECK(relative_error(cache.out, cache.expected) < allowed(q_type));
          }
        }
  set_isa(isa_levels().back());
}

TEST_CASE("decode with each kind of score equals the plain reference") {
  const std::vector<int64_t> lengths = {1, 65, 700};  // the last in parts
  int64_t first = 0;
  for (Isa level : hone::test::isa_levels_tested())
    for (DType kv_type : {DType::f32, DType::bf16})
      for (const MaskRule& rule : rules) {
        int64_t turn = first++;
        for (const ScoreRule& score : score_rules()) {
          if (!hone::test::takes_turn(turn++, 3)) continue;  // under the sanitizers each with one of the three rules
          set_isa(level);
          CAPTURE(name_of(level));
          CAPTURE(score.number);
          Cache cache(DType::f32, kv_type, 3, 700, 1, 4, 2, score.number < 1 ? 40 : 64);
          DecodeDims dims = cache.dims(rule, lengths);
          dims.score = score;
          cache.decode(dims);
          for (int64_t b = 0; b < 3; ++b)
            cache.reference(b, dims, lengths[static_cast<size_t>(b)], lengths[static_cast<size_t>(b)] - 1);
          CHECK(relative_error(cache.out, cache.expected) < 1e-5);
        }
      }
  set_isa(isa_levels().back());
}

TEST_CASE("several queries a sequence each see up to themselves") {
  for (int64_t queries : {2, 5, 8})
    for (const MaskRule& rule : rules) {
      const std::vector<int64_t> lengths = {8, 130};
      Cache cache(DType::f32, DType::bf16, 2, 140, queries, 4, 2, 32);
      DecodeDims dims = cache.dims(rule, lengths);
      for (const ScoreRule& score : {ScoreRule{}, alibi(4)}) {
        dims.score = score;
        cache.decode(dims);
        for (int64_t b = 0; b < 2; ++b)
          cache.reference(b, dims, lengths[static_cast<size_t>(b)], lengths[static_cast<size_t>(b)] - queries);
        CHECK(relative_error(cache.out, cache.expected) < 1e-5);
      }
    }
}

TEST_CASE("long caches are read in parts, with the same result for any batch and threads") {
  const int before = threads();
  for (const MaskRule& rule : rules) {
    const std::vector<int64_t> lengths = {1500, 600};
    Cache cache(DType::f32, DType::f32, 2, 1500, 1, 2, 1, 32);
    const DecodeDims dims = cache.dims(rule, lengths);
    set_threads(1);
    cache.decode(dims);
    for (int64_t b = 0; b < 2; ++b)
      cache.reference(b, dims, lengths[static_cast<size_t>(b)], lengths[static_cast<size_t>(b)] - 1);
    CHECK(relative_error(cache.out, cache.expected) < 1e-5);
    const Buffer both = cache.out;
    set_threads(3);
    cache.decode(dims);
    CHECK(cache.out == both);
    {
      const Awake awake(1);
      cache.decode(dims);
      CHECK(cache.out == both);
    }
    DecodeDims first = dims;
    first.batch = 1;
    cache.decode(first);
    for (int64_t i = 0; i < 64; ++i) CHECK(cache.out.get(i) == both.get(i));
  }
  set_threads(before);
}

TEST_CASE("a ring of rows is read by their positions") {
  const int64_t ring = 100, position = 250;  // the ring holds positions 153 … 252, and three slots are still empty
  std::vector<int32_t> positions(ring);
  for (int32_t p = 153; p <= 252; ++p) positions[static_cast<size_t>(p % ring)] = p;
  positions[10] = positions[11] = positions[12] = -1;
  for (Isa level : hone::test::isa_levels_tested())
    for (const MaskRule& rule : rules) {
      set_isa(level);
      const std::vector<int64_t> lengths = {ring}, first = {position};
      Cache cache(DType::f32, DType::bf16, 1, ring, 3, 2, 2, 32);
      DecodeDims dims = cache.dims(rule, lengths);
      dims.query_positions = first.data();
      dims.key_positions = positions.data();
      dims.key_positions_stride = ring;
      for (const ScoreRule& score : {ScoreRule{}, alibi(2)}) {
        dims.score = score;
        cache.decode(dims);
        cache.reference(0, dims, ring, position, positions);
        CHECK(relative_error(cache.out, cache.expected) < 1e-5);
      }
    }
  set_isa(isa_levels().back());
}

TEST_CASE("decode gives the last row of one pass") {
  for (Isa level : hone::test::isa_levels_tested())
    for (DType dtype : {DType::f32, DType::bf16})
      for (const MaskRule& rule : rules) {
        set_isa(level);
        AttentionDims dims;
        dims.queries = dims.keys = 150;
        dims.heads = 4;
        dims.kv_heads = 2;
        dims.head_dim = 64;
        Case whole(dtype, dims);
        whole.forward(*causal_plan(whole.shape(), rule));
        const std::vector<int64_t> lengths = {150};
        DecodeDims decode;
        decode.heads = 4;
        decode.kv_heads = 2;
        decode.head_dim = 64;
        decode.scale = whole.dims.scale;
        decode.rule = rule;
        decode.key_lengths = lengths.data();
        Buffer last(dtype, 4 * 64);
        attention_decode(decode, whole.part(whole.qkv, 149 * Case::row(dims)), whole.k(whole.qkv), whole.v(whole.qkv),
                         last.rows(0, 256, 256, 64));
        double difference = 0;
        for (int64_t i = 0; i < 256; ++i)
          difference = std::max<double>(difference, std::fabs(last.get(i) - whole.out.get(149 * 256 + i)));
        CHECK(difference < (dtype == DType::f32 ? 1e-5 : 1e-2));
      }
  set_isa(isa_levels().back());
}

TEST_CASE("decode refuses what does not fit") {
  const std::vector<int64_t> lengths = {4};
  Cache cache(DType::f32, DType::f32, 1, 4, 1, 3, 1, 8);
  DecodeDims dims = cache.dims({}, lengths);
  dims.kv_heads = 2;
  CHECK_THROWS_AS(cache.decode(dims), Error);
  dims = cache.dims({}, lengths);
  dims.key_lengths = nullptr;
  CHECK_THROWS_AS(cache.decode(dims), Error);
  dims = cache.dims({}, lengths);
  dims.score = alibi(2);  // of three
  CHECK_THROWS_AS(cache.decode(dims), Error);
}
