// Which blocks are chosen, in which order, where every score is known to the last bit.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "base/random.h"
#include "kernels/attention/route.h"
#include "lib/kernels/attention/attention_case.h"
#include "support/isa.h"

using namespace hone;
using namespace hone::kernels;
using namespace hone::kernels::test;

namespace {

// A call of route() for one sequence.
struct ChoiceCase {
  AttentionDims dims;
  RouteRule rule;
};

// Queries and summaries of whole numbers, times powers of two, of which every product and sum is exact in any order and
// in bf16: what is chosen must be what the definition says to the last block, however many scores are equal.
struct WholeNumbers {
  enum class Kind { few_values, many_values, equal, rising, falling };

  AttentionDims dims;
  RouteRule rule;
  int64_t blocks;
  std::vector<int> q;          // [queries, heads, head_dim]
  std::vector<int> summaries;  // [kv_heads, blocks, 3, head_dim]: a third of the mean's share of a score, the extremes'

  WholeNumbers(const ChoiceCase& example, Kind kind) : dims(example.dims), rule(example.rule) {
    blocks = (dims.keys + rule.block - 1) / rule.block;
    Random random(static_cast<uint64_t>(dims.keys + static_cast<int64_t>(kind)), "whole numbers");
    const auto within = [&](int most) {
      return static_cast<int>(random.below(static_cast<uint64_t>(2 * most + 1))) - most;
    };
    const bool wide = kind == Kind::many_values;
    for (int64_t i = 0; i < dims.queries * dims.heads * dims.head_dim; ++i) q.push_back(within(wide ? 7 : 1));
    for (int64_t i = 0; i < dims.kv_heads * blocks; ++i)
      for (int64_t e = 0; e < 3 * dims.head_dim; ++e) {
        const int64_t block = i % blocks;
        const int of_block = static_cast<int>(kind == Kind::rising ? block : blocks - block);
        const int most = e < dims.head_dim ? (wide ? 20 : 1) : (wide ? 60 : 2);
        const int alike = e < dims.head_dim ? 1 : of_block;
        summaries.push_back(kind == Kind::equal ? 1 : kind < Kind::equal ? within(most) : alike);
      }
  }

  int64_t score(int64_t query, int64_t head, int64_t block) const {
    const int64_t n = dims.head_dim, kv_head = head / (dims.heads / dims.kv_heads);
    const int* of_query = q.data() + (query * dims.heads + head) * n;
    const int* of_block = summaries.data() + (kv_head * blocks + block) * 3 * n;
    int64_t total = 0;
    for (int64_t e = 0; e < n; ++e)
      total += of_query[e] * (3 * of_block[e] + of_block[(of_query[e] > 0 ? n : 2 * n) + e]);
    return total;
  }

  // In the layout of route(): every past block in the order of its score, the earlier first where scores are equal.
  std::vector<int32_t> best() const {
    const int64_t query_blocks = (dims.queries + 63) / 64, count = rule.count - 1;
    std::vector<int32_t> chosen(static_cast<size_t>(dims.heads * query_blocks * count * 64), -1);
    for (int64_t h = 0; h < dims.heads; ++h)
      for (int64_t i = 0; i < dims.queries; ++i) {
        const int64_t position = dims.query_offset + i;
        std::vector<std::pair<int64_t, int64_t>> scores;
        for (int64_t j = 0; j < position / rule.block; ++j)
          if (rule.window == 0 || j * rule.block <= position - rule.window) scores.emplace_back(-score(i, h, j), j);
        std::sort(scores.begin(), scores.end());
        for (int64_t n = 0; n < std::min<int64_t>(count, static_cast<int64_t>(scores.size())); ++n)
          chosen[static_cast<size_t>(((h * query_blocks + i / 64) * count + n) * 64 + i % 64)] =
              static_cast<int32_t>(scores[static_cast<size_t>(n)].second);
      }
    return chosen;
  }

  // With queries times 2^of_queries and summaries times 2^of_summaries.
  std::vector<int32_t> chosen(DType type, int of_queries, int of_summaries) const {
    Buffer rows(type, static_cast<int64_t>(q.size()));
    for (int64_t i = 0; i < rows.size(); ++i)
      rows.set(i, std::ldexp(static_cast<float>(q[static_cast<size_t>(i)]), of_queries));
    std::vector<float> numbers;
    for (size_t i = 0; i < summaries.size(); ++i) {
      const bool sum = static_cast<int64_t>(i) / dims.head_dim % 3 == 0;
      // The mean's share, 3/4 of a sum / block, is 3 times the number; the extremes' is a quarter.
      const int exponent = sum ? std::countr_zero(static_cast<uint64_t>(4 * rule.block)) : 2;
      numbers.push_back(std::ldexp(static_cast<float>(summaries[i]), exponent + of_summaries));
    }
    const int64_t row = dims.heads * dims.head_dim;
    std::vector<int32_t> result;
    route(dims, rows.rows(0, dims.queries * row, row, dims.head_dim),
          KeySummaries::of(numbers.data(), dims.kv_heads, blocks, dims.head_dim), rule, result);
    return result;
  }
};

// Queries that stand last among `tokens`.
ChoiceCase last_of(int64_t tokens, int64_t queries, int64_t heads, int64_t kv_heads, int64_t head_dim, RouteRule rule) {
  ChoiceCase example = {dims_of(tokens, heads, kv_heads, head_dim), rule};
  example.dims.queries = queries;
  example.dims.query_offset = tokens - queries;
  return example;
}

}  // namespace

TEST_CASE("every query's blocks are those of a plain loop, in its order, whatever scores are equal") {
  using Kind = WholeNumbers::Kind;
  const std::vector<ChoiceCase> many = {
      last_of(64 * 150, 200, 4, 2, 16, {64, 8, 0}), last_of(64 * 64 + 30, 130, 2, 1, 40, {64, 4, 100}),
      last_of(128 * 70, 64, 2, 2, 24, {128, 21, 0}), last_of(64 * 65, 1, 3, 1, 64, {64, 2, 0}),
      last_of(64 * 9 - 1, 64 * 9 - 1, 1, 1, 16, {64, 12, 0})};
  for (const ChoiceCase& example : many)
    for (const Kind kind : {Kind::few_values, Kind::many_values, Kind::equal, Kind::rising, Kind::falling}) {
      CAPTURE(example.dims.keys);
      CAPTURE(static_cast<int>(kind));
      const WholeNumbers numbers(example, kind);
      const std::vector<int32_t> expected = numbers.best();
      hone::test::at_every_isa([&] {
        for (const DType type : {DType::f32, DType::bf16}) {
          CHECK(numbers.chosen(type, 0, 0) == expected);
          CHECK(numbers.chosen(type, 60, 40) == expected);    // huge norms
          CHECK(numbers.chosen(type, -30, -20) == expected);  // and tiny ones
        }
      });
    }
}
