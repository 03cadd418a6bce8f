#include "kernels/attention/route.h"

#include <numeric>

#include "base/cpu.h"
#include "base/error.h"
#include "kernels/attention/attention.h"
#include "lib/kernels/attention/attention_case.h"
#include "support/isa.h"

using namespace hone;
using namespace hone::kernels;
using namespace hone::kernels::test;

namespace {

// Summaries of all keys of a case, in pieces of `piece` rows.
struct Summaries {
  std::vector<float> data;
  KeySummaries view;

  Summaries(Case& c, int64_t block, int64_t piece) {
    const AttentionDims& d = c.dims;
    const int64_t blocks = (d.keys + block - 1) / block, per_sequence = d.kv_heads * blocks * 3 * d.head_dim;
    data.assign(static_cast<size_t>(d.batch * per_sequence), 1e6f);  // stale numbers, to be replaced
    view = KeySummaries::of(data.data(), d.kv_heads, blocks, d.head_dim);
    for (int64_t b = 0; b < d.batch; ++b)
      for (int64_t first = 0; first < d.keys; first += piece) {
        const ConstHeadRows k = c.part(c.qkv, first * Case::row(d) + d.heads * d.head_dim);
        summarize_keys(k, b, d.kv_heads, d.head_dim, first, std::min(piece, d.keys - first), block,
                       data.data() + b * per_sequence, view.head_stride);
      }
  }
};

// What each query sees: its own block, the blocks that `choose(sequence, head, query)` gives, and the window.
template <class Choose>
ReferenceMask mask_of(const AttentionDims& d, const RouteRule& rule, Choose&& choose) {
  ReferenceMask mask = {std::vector<uint8_t>(static_cast<size_t>(d.batch * d.heads * d.queries * d.keys)),
                        d.batch * d.heads};
  for (int64_t b = 0; b < d.batch; ++b)
    for (int64_t h = 0; h < d.heads; ++h)
      for (int64_t i = 0; i < d.queries; ++i) {
        const int64_t position = d.query_offset + i;
        std::vector<int64_t> blocks = choose(b, h, i);
        blocks.push_back(position / rule.block);
        uint8_t* seen = mask.visible.data() + ((b * d.heads + h) * d.queries + i) * d.keys;
        for (const int64_t j : blocks)
          for (int64_t row = j * rule.block; row < (j + 1) * rule.block && row <= position; ++row) seen[row] = 1;
        for (int64_t row = std::max<int64_t>(0, position - rule.window + 1); row <= position; ++row) seen[row] = 1;
      }
  return mask;
}

// By the definition: the best count - 1 of the blocks before its own that the window does not show whole.
ReferenceMask naive_mask(Case& c, const RouteRule& rule) {
  const AttentionDims& d = c.dims;
  const int64_t in_group = d.heads / d.kv_heads;
  const auto element = [&](int64_t b, int64_t row, int64_t head, int64_t e) {
    return static_cast<double>(c.qkv.get((b * d.keys + row) * Case::row(d) + head * d.head_dim + e));
  };
  return mask_of(d, rule, [&](int64_t b, int64_t h, int64_t i) {
    const int64_t position = d.query_offset + i;
    std::vector<std::pair<double, int64_t>> scores;
    for (int64_t j = 0; j < position / rule.block; ++j) {
      if (rule.window > 0 && j * rule.block > position - rule.window) continue;
      double score = 0;
      for (int64_t e = 0; e < d.head_dim; ++e) {
        double best = -1e30, mean = 0;
        for (int64_t row = j * rule.block; row < (j + 1) * rule.block; ++row) {
          const double product = element(b, position, h, e) * element(b, row, d.heads + h / in_group, e);
          best = std::max(best, product);
          mean += product / static_cast<double>(rule.block);
        }
        score += mean + extreme_share * (best - mean);
      }
      scores.emplace_back(-score, j);
    }
    std::sort(scores.begin(), scores.end());
    scores.resize(std::min<size_t>(scores.size(), static_cast<size_t>(rule.count - 1)));
    std::vector<int64_t> blocks;
    for (const auto& [score, j] : scores) blocks.push_back(j);
    return blocks;
  });
}

// By what route() chose.
ReferenceMask chosen_mask(const AttentionDims& d, const RouteRule& rule, const std::vector<int32_t>& chosen) {
  const int64_t query_blocks = (d.queries + 63) / 64;
  return mask_of(d, rule, [&](int64_t b, int64_t h, int64_t i) {
    std::vector<int64_t> blocks;
    for (int64_t n = 0; n < rule.count - 1; ++n) {
      const int64_t of_block = ((b * d.heads + h) * query_blocks + i / 64) * (rule.count - 1) + n;
      const int32_t j = chosen[static_cast<size_t>(of_block * 64 + i % 64)];
      if (j >= 0) blocks.push_back(j);
    }
    return blocks;
  });
}

struct Example {
  AttentionDims dims;
  RouteRule rule;
};

std::vector<Example> examples() {
  return {{dims_of(40, 2, 1, 16, 1), {64, 3, 0}},
          {dims_of(330, 4, 2, 32, 2), {64, 3, 0}},
          {dims_of(330, 2, 2, 40, 1), {64, 2, 100}},
          {dims_of(600, 2, 1, 16, 1), {128, 3, 30}},
          {dims_of(200, 3, 1, 64, 1), {64, 1, 0}}};
}

}  // namespace

TEST_CASE("routed attention equals a reference with the mask written out, forward and backward") {
  for (const Example& example : examples()) {
    CAPTURE(example.dims.queries);
    Case expected(DType::f32, example.dims);
    const ReferenceMask mask = naive_mask(expected, example.rule);
    expected.reference(mask);
    for (Isa level : hone::test::isa_levels_tested()) {
      set_isa(level);
      CAPTURE(name_of(level));
      Case actual(DType::f32, example.dims);
      const Summaries summaries(actual, example.rule.block, 1000);
      const auto plan = routed_plan(actual.dims, actual.q(actual.qkv), summaries.view, example.rule);
      CHECK(plan->visible_pairs == std::accumulate(mask.visible.begin(), mask.visible.end(), int64_t{0}));
      actual.forward(*plan);
      actual.backward(*plan);
      check_equal(actual, expected);
    }
  }
  set_isa(isa_levels().back());
}

TEST_CASE("in bf16 outputs and gradients are near the f32 reference's with the same choice") {
  int64_t first = 0;
  for (Isa level : hone::test::isa_levels_tested()) {
    int64_t turn = first++;
    for (const Example& example : examples()) {
      if (!hone::test::takes_turn(turn++, 2)) continue;
      set_isa(level);
      CAPTURE(name_of(level));
      CAPTURE(example.dims.queries);
      Case rounded(DType::bf16, example.dims), expected(DType::f32, example.dims);
      for (int64_t i = 0; i < rounded.qkv.size(); ++i) expected.qkv.set(i, rounded.qkv.get(i));
      for (int64_t i = 0; i < rounded.d_out.size(); ++i) expected.d_out.set(i, rounded.d_out.get(i));
      const Summaries summaries(rounded, example.rule.block, 1000);
      const ConstHeadRows q = rounded.q(rounded.qkv);
      std::vector<int32_t> chosen;
      route(rounded.dims, q, summaries.view, example.rule, chosen);
      const ReferenceMask mask = chosen_mask(rounded.dims, example.rule, chosen);
      const auto plan = routed_plan(rounded.dims, q, summaries.view, example.rule);
      CHECK(plan->visible_pairs == std::accumulate(mask.visible.begin(), mask.visible.end(), int64_t{0}));
      expected.reference(mask);
      rounded.forward(*plan);
      rounded.backward(*plan);
      CHECK(relative_error(rounded.out, expected.out) < tolerance(DType::bf16));
      // Queries, keys and values apart: the gradients of one are much larger than those of another.
      const AttentionDims& d = example.dims;
      const int64_t row = Case::row(d), ends[] = {0, d.heads * d.head_dim, (d.heads + d.kv_heads) * d.head_dim, row};
      for (int part = 0; part < 3; ++part) {
        CAPTURE(part);
        const int64_t width = ends[part + 1] - ends[part];
        Buffer actual(DType::f32, d.batch * d.keys * width), wanted(DType::f32, actual.size());
        for (int64_t i = 0; i < actual.size(); ++i) {
          const int64_t at = i / width * row + ends[part] + i % width;
          actual.set(i, rounded.d_qkv.get(at));
          wanted.set(i, expected.d_qkv.get(at));
        }
        CHECK(relative_error(actual, wanted) < 2 * tolerance(DType::bf16));
      }
    }
  }
  set_isa(isa_levels().back());
}

TEST_CASE("a block is found by the one key of it that matters, which its mean hides") {
  for (Isa level : hone::test::isa_levels_tested())
    for (DType type : {DType::f32, DType::bf16}) {
      set_isa(level);
      CAPTURE(name_of(level));
      const AttentionDims dims = dims_of(640, 1, 1, 64, 1);
      for (int64_t block = 0; block < 9; ++block) {
        if (!hone::test::takes_turn(block, 4)) continue;
        CAPTURE(block);
        Case c(type, dims);
        const auto key = [&](int64_t row, int64_t e) { return row * Case::row(dims) + 64 + e; };
        const int64_t matters = 64 * block + 17;
        for (int64_t e = 0; e < 64; ++e) {
          const float q = c.qkv.get(639 * Case::row(dims) + e);
          for (int64_t row = 64 * block; row < 64 * block + 64; ++row)
            c.qkv.set(key(row, e), row == matters ? 4 * q : c.qkv.get(key(row, e)) - 4 * q / 63);
        }
        const Summaries summaries(c, 64, 640);
        std::vector<int32_t> chosen;
        route(c.dims, c.q(c.qkv), summaries.view, {64, 2, 0}, chosen);
        CHECK(chosen.back() == block);  // of the last query
      }
    }
  set_isa(isa_levels().back());
}

TEST_CASE("in bf16 the chosen blocks score nearly as high as the best") {
  const RouteRule rule{64, 4, 0};
  Case c(DType::bf16, dims_of(640, 2, 1, 64, 1));
  const Summaries summaries(c, 64, 640);
  std::vector<int32_t> chosen = {5};  // of an earlier call
  route(c.dims, c.q(c.qkv), summaries.view, rule, chosen);
  const auto score = [&](int64_t i, int64_t h, int64_t j) {
    double total = 0;
    for (int64_t e = 0; e < 64; ++e) {
      const double q = static_cast<double>(c.qkv.get(i * Case::row(c.dims) + h * 64 + e));
      const auto at = [&](int64_t which) {
        return static_cast<double>(summaries.data[static_cast<size_t>((3 * j + which) * 64 + e)]);
      };
      total += q * ((1 - extreme_share) * at(0) / 64 + extreme_share * at(q > 0 ? 1 : 2));
    }
    return total;
  };
  for (int64_t h = 0; h < 2; ++h)
    for (int64_t i = 256; i < 640; ++i) {
      std::vector<double> all;
      for (int64_t j = 0; j < i / 64; ++j) all.push_back(score(i, h, j));
      std::sort(all.rbegin(), all.rend());
      for (int64_t n = 0; n < 3; ++n) {
        const int32_t j = chosen[static_cast<size_t>(((h * 10 + i / 64) * 3 + n) * 64 + i % 64)];
        REQUIRE(j >= 0);
        REQUIRE(j < i / 64);
        CHECK(score(i, h, j) > all[static_cast<size_t>(n)] - 0.3);  // scores are of the order of 30
      }
    }
}

TEST_CASE("summaries of keys are the same bits in one piece, in chunks and one by one") {
  for (DType type : {DType::f32, DType::bf16}) {
    Case c(type, dims_of(300, 2, 2, 40, 2));
    const Summaries whole(c, 64, 300);
    CHECK(Summaries(c, 64, 1).data == whole.data);
    CHECK(Summaries(c, 64, 77).data == whole.data);
  }
}

TEST_CASE("chunks at any offset choose what one pass chooses, and equal its rows") {
  for (Isa level : hone::test::isa_levels_tested()) {
    set_isa(level);
    const AttentionDims dims = dims_of(450, 4, 2, 32, 1);
    const RouteRule rule{64, 3, 20};
    Case whole(DType::f32, dims);
    const Summaries summaries(whole, 64, 450);
    whole.forward(*routed_plan(whole.dims, whole.q(whole.qkv), summaries.view, rule));
    Buffer chunked(DType::f32, whole.out.size());
    const int64_t row = dims.heads * dims.head_dim;
    for (int64_t begin = 0, count = 0; begin < 450; begin += count) {
      count = std::min<int64_t>(begin % 2 ? 70 : 133, 450 - begin);
      AttentionDims part = whole.dims;
      part.queries = count;
      part.query_offset = begin;
      part.keys = begin + count;
      const HeadRows q = whole.part(whole.qkv, begin * Case::row(dims));
      const auto plan = routed_plan(part, q, summaries.view, rule);
      attention_forward(part, q, whole.k(whole.qkv), whole.v(whole.qkv), chunked.rows(begin * row, 0, row, 32), nullptr,
                        *plan);
    }
    CHECK(relative_error(chunked, whole.out) < 1e-5);
  }
  set_isa(isa_levels().back());
}

TEST_CASE("heads that share keys and heads that have copies of them give the same bits") {
  for (Isa level : hone::test::isa_levels_tested())
    for (DType type : {DType::f32, DType::bf16}) {
      set_isa(level);
      CAPTURE(name_of(level));
      const int64_t tokens = 700, dim = 32;
      Case shared(type, dims_of(tokens, 2, 1, dim)), apart(type, dims_of(tokens, 2, 2, dim));
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t e = 0; e < 6 * dim; ++e) {  // two heads of queries, of keys and of values
          const int64_t from = e < 2 * dim ? e : (e / (2 * dim) + 1) * dim + e % dim;
          apart.qkv.set(t * Case::row(apart.dims) + e, shared.qkv.get(t * Case::row(shared.dims) + from));
        }
      for (Case* c : {&shared, &apart}) {
        const Summaries summaries(*c, 64, tokens);
        const auto plan = routed_plan(c->dims, c->q(c->qkv), summaries.view, {64, 3, 0});
        CHECK(plan->gathered);
        c->forward(*plan);
      }
      CHECK(shared.out == apart.out);
      CHECK(shared.lse == apart.lse);
    }
  set_isa(isa_levels().back());
}

TEST_CASE("decoding with chosen blocks equals the one pass") {
  for (Isa level : hone::test::isa_levels_tested())
    for (const Example& example : examples()) {
      set_isa(level);
      CAPTURE(name_of(level));
      const AttentionDims& d = example.dims;
      Case whole(DType::f32, d);
      const Summaries summaries(whole, example.rule.block, 1000);
      whole.forward(*routed_plan(whole.dims, whole.q(whole.qkv), summaries.view, example.rule));
      for (int64_t position : {int64_t{0}, d.keys / 2, d.keys - 1}) {
        std::vector<int64_t> starts = {0}, lengths(static_cast<size_t>(d.batch), position + 1);
        std::vector<DecodeVisit> visits;
        const ConstHeadRows q = whole.part(whole.qkv, position * Case::row(d));
        for (int64_t b = 0; b < d.batch; ++b) {
          AttentionDims one = whole.dims;
          one.batch = one.queries = 1;
          one.query_offset = position;
          ConstHeadRows own = q;
          own.data = static_cast<const float*>(q.data) + b * q.batch_stride;
          KeySummaries of_one = summaries.view;
          of_one.data += b * of_one.batch_stride;
          routed_visits(one, own, of_one, example.rule, starts, visits);
        }
        DecodeDims decode;
        decode.batch = d.batch;
        decode.heads = d.heads;
        decode.kv_heads = d.kv_heads;
        decode.head_dim = d.head_dim;
        decode.scale = whole.dims.scale;
        decode.rule.window = example.rule.window;
        decode.key_lengths = lengths.data();
        decode.visits = visits.data();
        decode.visit_starts = starts.data();
        const int64_t row = d.heads * d.head_dim;
        Buffer out(DType::f32, d.batch * row), expected(DType::f32, d.batch * row);
        attention_decode(decode, q, whole.k(whole.qkv), whole.v(whole.qkv), out.rows(0, row, row, d.head_dim));
        for (int64_t b = 0; b < d.batch; ++b)
          for (int64_t e = 0; e < row; ++e) expected.set(b * row + e, whole.out.get((b * d.keys + position) * row + e));
        CHECK(relative_error(out, expected) < 1e-5);
      }
    }
  set_isa(isa_levels().back());
}

TEST_CASE("rules that cannot be are refused") {
  Case c(DType::f32, dims_of(100, 2, 1, 16, 1));
  const Summaries summaries(c, 64, 100);
  std::vector<int32_t> chosen;
  for (const RouteRule& rule : {RouteRule{32, 2, 0}, RouteRule{64, 0, 0}, RouteRule{64, 2, -1}, RouteRule{0, 2, 0}})
    CHECK_THROWS_AS(route(c.dims, c.q(c.qkv), summaries.view, rule, chosen), Error);
}
