#include "kernels/attention/attention.h"

#include "base/cpu.h"
#include "base/error.h"
#include "kernels/parallel.h"
#include "lib/kernels/attention/attention_case.h"
#include "support/isa.h"

using namespace hone;
using namespace hone::kernels;
using namespace hone::kernels::test;

namespace {

constexpr MaskRule rules[] = {{},
                              {.window = 24},
                              {.window = 70, .sinks = 3},
                              {.causal = false},
                              {.window = 24, .causal = false},
                              {.window = 70, .sinks = 3, .causal = false}};

// Calls f(value, rule) for all of both; under the sanitizers for every third pair, so that each still comes.
template <class F>
void for_rules(std::initializer_list<int64_t> values, F&& f) {
  int64_t first = 0;
  for (const int64_t value : values) {
    int64_t turn = first++;
    for (const MaskRule& rule : rules)
      if (hone::test::takes_turn(turn++, 3)) f(value, rule);
  }
}

// Forward and backward on every instruction set against one run of the reference.
void compare(const AttentionDims& dims, const BlockPlan& plan, const ReferenceMask& mask) {
  for (DType dtype : {DType::f32, DType::bf16}) {
    Case expected(dtype, dims);
    expected.reference(mask);
    for (Isa level : hone::test::isa_levels_tested()) {
      CAPTURE(name_of(level));
      CAPTURE(name_of(dtype));
      CAPTURE(dims.queries);
      CAPTURE(dims.head_dim);
      CAPTURE(plan.rule.window);
      set_isa(level);
      Case actual(dtype, dims);
      actual.forward(plan);
      actual.backward(plan);
      check_equal(actual, expected);
    }
  }
  set_isa(isa_levels().back());
}

void compare(const AttentionDims& dims, const MaskRule& rule) {
  compare(dims, *causal_plan({dims.queries, dims.keys, dims.query_offset}, rule), reference_mask(dims, rule));
}

}  // namespace

TEST_CASE("attention equals the plain reference, forward and backward, at ragged lengths") {
  for_rules({1, 5, 63, 64, 65, 130, 200},
            [](int64_t tokens, const MaskRule& rule) { compare(dims_of(tokens, 2, 2, 64), rule); });
}

TEST_CASE("attention equals the plain reference for other head widths, grouped heads and batches") {
  for_rules({1, 16, 32, 40, 96, 128}, [](int64_t head_dim, const MaskRule& rule) {
    compare(dims_of(100, 2, 1, head_dim, head_dim == 16 ? 2 : 1), rule);
  });
  compare(dims_of(70, 6, 2, 32, 2), {});
}

TEST_CASE("a query that is not a number gives nothing else, and spoils no other row") {
  hone::test::at_every_isa([] {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const AttentionDims dims = dims_of(100, 2, 1, 32);
      Case one(dtype, dims);
      one.qkv.set(70 * Case::row(dims), NAN);  // of the first head
      one.forward(*causal_plan({100, 100, 0}, {}));
      for (int64_t i = 0; i < one.out.size(); ++i) REQUIRE(std::isnan(one.out.get(i)) == (i / 64 == 70 && i % 64 < 32));
    }
  });
}

TEST_CASE("scores of each kind: values and gradients equal the plain reference's") {
  bool wide = false;  // in turn
  int64_t turn = 0;
  for (const ScoreRule& score : score_rules()) {
    CAPTURE(info_of(score.kind).form);
    CAPTURE(score.number);
    ++turn;  // seven a score: under the sanitizers every third rule, and others of the next score
    for (const MaskRule& rule : rules) {
      if (!hone::test::takes_turn(turn++, 3)) continue;
      AttentionDims dims = dims_of(wide ? 130 : 70, 4, 2, wide ? 40 : 64);
      dims.score = score;
      compare(dims, rule);
    }
    wide = !wide;
  }
}

TEST_CASE("queries at an offset see the rows before them") {
  for_rules({1, 37, 64, 130}, [](int64_t offset, const MaskRule& rule) {
    AttentionDims dims = dims_of(70, 4, 2, 32);
    dims.query_offset = offset;
    dims.keys = offset + 70;
    compare(dims, rule);
    dims.score = alibi(4);
    compare(dims, rule);
  });
}

TEST_CASE("keys in any order with empty rows give the softmax over the rows that are there") {
  AttentionDims dims = dims_of(80, 2, 1, 32);
  dims.keys = 150;
  dims.query_offset = 40;
  std::vector<int32_t> positions(150);
  for (int32_t row = 0; row < 150; ++row)
    positions[static_cast<size_t>(row)] = row % 11 == 3 ? -1 : (row * 7 + 90) % 150;
  for (const MaskRule& rule : rules) {
    const ReferenceMask mask = reference_mask(dims, rule, positions);
    compare(dims, *causal_plan({80, 150, 40}, rule, positions), mask);
    AttentionDims by_distance = dims;
    by_distance.score = alibi(2);
    compare(by_distance, *causal_plan({80, 150, 40}, rule, positions), mask);
  }
}

TEST_CASE("a query that sees nothing gets zeros") {
  AttentionDims dims = dims_of(20, 1, 1, 32);
  const std::vector<int32_t> positions = {-1, -1, -1, -1, -1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19};
  Case c(DType::f32, dims);
  c.forward(*causal_plan({20, 20, 0}, {}, positions));
  for (int64_t i = 0; i < 5 * 32; ++i) CHECK(c.out.get(i) == 0);
  CHECK(c.lse[0] < -1e29f);
  CHECK(c.out.get(5 * 32) == doctest::Approx(c.qkv.get(5 * 96 + 64)));
  compare(dims, *causal_plan({20, 20, 0}, {}, positions), reference_mask(dims, {}, positions));
}

TEST_CASE("lists for each head with blocks selected for single queries") {
  const int64_t tokens = 200;
  const AttentionDims dims = dims_of(tokens, 4, 2, 32, 2);
  for (const int64_t window : {0, 40}) {
    BlockPlan plan;
    plan.shape = {tokens, tokens, 0};
    plan.rule = {.window = window, .sinks = window ? 2 : 0};
    plan.lists = 8;
    ReferenceMask mask = {{}, 8};
    const ReferenceMask rule = reference_mask(dims, plan.rule);
    for (int64_t list = 0; list < 8; ++list)
      mask.visible.insert(mask.visible.end(), rule.visible.begin(), rule.visible.end());
    const auto chosen = [](int64_t list, int64_t i, int64_t j) -> uint64_t {
      if (i == j) return ~uint64_t{0};
      const uint64_t draw = mix64(static_cast<uint64_t>(list * 10000 + i * 100 + j));
      return draw % 3 == 0 ? ~uint64_t{0} : draw % 3 == 1 ? mix64(draw) : 0;
    };
    build_plan(plan, [&](int64_t list, int64_t i, std::vector<SelectedBlock>& selected) {
      for (int64_t j = i; j >= 0; --j) selected.push_back({static_cast<int32_t>(j), chosen(list, i, j)});
    });
    int64_t pairs = 0;
    for (int64_t list = 0; list < 8; ++list)
      for (int64_t q = 0; q < tokens; ++q)
        for (int64_t k = 0; k <= q; ++k) {
          uint8_t& seen = mask.visible[static_cast<size_t>((list * tokens + q) * tokens + k)];
          seen = seen || (chosen(list, q / 64, k / 64) >> (q % 64) & 1);
          pairs += seen;
        }
    CHECK(plan.visible_pairs == pairs);
    CHECK(plan.causal_pairs == 8 * tokens * (tokens + 1) / 2);
    compare(dims, plan, mask);
    int64_t turn = window > 0;
    for (const ScoreRule& score : {ScoreRule{score_named("softcap"), 1.5f}, alibi(4)}) {
      if (!hone::test::takes_turn(turn++, 2)) continue;  // under the sanitizers one with each window
      AttentionDims changed = dims;
      changed.score = score;
      compare(changed, plan, mask);
    }
  }
}

TEST_CASE("plans count what the rule shows, and one shape shares one plan") {
  for (const MaskRule& rule : rules)
    for (int64_t tokens : {1, 64, 200, 513}) {
      const AttentionDims dims = dims_of(tokens, 1, 1, 1);
      const auto plan = causal_plan({tokens, tokens, 0}, rule);
      int64_t pairs = 0;
      for (uint8_t seen : reference_mask(dims, rule).visible) pairs += seen;
      CHECK(plan->visible_pairs == pairs);
      CHECK(plan->causal_pairs == tokens * (tokens + 1) / 2);
      CHECK(causal_plan({tokens, tokens, 0}, rule) == plan);
    }
  const auto window = causal_plan({4096, 4096, 0}, {.window = 128, .sinks = 4});
  CHECK(window->by_query.size() < 64 * 4 + 1);
  CHECK(window->by_query.size() == window->by_key.size());
}

TEST_CASE("results do not depend on the threads, and parts of key blocks add up") {
  const int before = threads();
  for (DType dtype : {DType::f32, DType::bf16}) {
    const AttentionDims dims = dims_of(1100, 1, 1, 16);
    const auto plan = causal_plan({1100, 1100, 0}, {});
    Case expected(dtype, dims);
    expected.reference(reference_mask(dims, {}));
    set_threads(1);
    Case one(dtype, dims);
    one.forward(*plan);
    one.backward(*plan);
    check_equal(one, expected);
    set_threads(3);
    Case three(dtype, dims);
    three.forward(*plan);
    three.backward(*plan);
    check_equal(three, expected);
    CHECK(three.out == one.out);
    CHECK(three.lse == one.lse);
    Case again(dtype, dims);
    again.forward(*plan);
    again.backward(*plan);
    CHECK(again.d_qkv == three.d_qkv);
  }
  set_threads(before);
}

TEST_CASE("chunks of a prefill give the rows of one pass") {
  for (Isa level : hone::test::isa_levels_tested())
    for (DType dtype : {DType::f32, DType::bf16})
      for (const MaskRule& rule : rules) {
        if (!rule.causal) continue;  // a chunk lacks the keys after it
        set_isa(level);
        const AttentionDims dims = dims_of(200, 4, 2, 64);
        Case whole(dtype, dims);
        whole.forward(*causal_plan(whole.shape(), rule));
        Buffer chunked(dtype, whole.out.size());
        const int64_t row = 4 * 64;
        for (int64_t begin = 0, count = 0; begin < 200; begin += count) {
          count = std::min<int64_t>(begin % 3 == 0 ? 70 : 33, 200 - begin);
          AttentionDims part = whole.dims;
          part.queries = count;
          part.query_offset = begin;
          part.keys = begin + count;
          HeadRows q = whole.part(whole.qkv, begin * Case::row(dims));
          attention_forward(part, q, whole.k(whole.qkv), whole.v(whole.qkv),
                            chunked.rows(begin * row, 200 * row, row, 64), nullptr,
                            *causal_plan({count, begin + count, begin}, rule));
        }
        CHECK(relative_error(chunked, whole.out) < (dtype == DType::f32 ? 1e-5 : 8e-3));
      }
  set_isa(isa_levels().back());
}

TEST_CASE("a call that begins where queries share lanes has the bits of one pass") {
  for (Isa level : hone::test::isa_levels_tested())
    for (DType dtype : {DType::f32, DType::bf16})
      for (const ScoreRule& score : {ScoreRule{}, ScoreRule{score_named("softcap"), 30}}) {
        CAPTURE(name_of(level));
        CAPTURE(name_of(dtype));
        set_isa(level);
        AttentionDims dims = dims_of(215, 4, 2, 64);
        dims.scale = 0.9f;  // large: maxima rise along the way, of some queries alone
        dims.score = score;
        Case whole(dtype, dims);
        whole.forward(*causal_plan(whole.shape()));
        const int64_t row = 4 * 64;
        for (const int64_t first : {16, 32, 48, 80, 176, 208}) {
          CAPTURE(first);
          Buffer rest = whole.out;
          for (int64_t i = first * row; i < rest.size(); ++i) rest.set(i, 7);
          // The first piece ends with a block, as an engine's do, or at other lanes.
          for (int64_t begin = first, end = 0; begin < 215; begin = end) {
            end = std::min<int64_t>(first % 32 ? (begin + 64) / 64 * 64 : begin + 96, 215);
            AttentionDims part = whole.dims;
            part.queries = end - begin;
            part.query_offset = begin;
            part.keys = end;
            HeadRows q = whole.part(whole.qkv, begin * Case::row(dims));
            attention_forward(part, q, whole.k(whole.qkv), whole.v(whole.qkv),
                              rest.rows(begin * row, 215 * row, row, 64), nullptr,
                              *causal_plan({part.queries, part.keys, begin}));
          }
          CHECK(rest == whole.out);
        }
      }
  set_isa(isa_levels().back());
}

TEST_CASE("dimensions, types and plans that do not fit are refused") {
  Case c(DType::f32, dims_of(10, 3, 1, 8));
  CHECK_THROWS_AS(c.forward(*causal_plan({11, 11, 0}, {})), Error);
  AttentionDims uneven = c.dims;
  uneven.kv_heads = 2;
  CHECK_THROWS_AS(attention_forward(uneven, c.q(c.qkv), c.k(c.qkv), c.v(c.qkv), c.outputs(c.out), nullptr,
                                    *causal_plan({10, 10, 0}, {})),
                  Error);
  for (const ScoreRule& score :
       {ScoreRule{score_named("softcap"), 0}, alibi(2), ScoreRule{score_named("alibi"), 0, 1, 3}}) {
    Case wrong(DType::f32, c.dims);
    wrong.dims.score = score;
    CHECK_THROWS_AS(wrong.forward(*causal_plan({10, 10, 0}, {})), Error);
  }
  Buffer half(DType::bf16, c.out.size());
  CHECK_THROWS_AS(attention_forward(c.dims, c.q(c.qkv), c.k(c.qkv), c.v(c.qkv), c.outputs(half), nullptr,
                                    *causal_plan({10, 10, 0}, {})),
                  Error);
  CHECK_THROWS_AS(causal_plan({10, 10, 5}, {}), Error);
}
