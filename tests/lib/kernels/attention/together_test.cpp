#include "kernels/attention/attention.h"

#include "base/cpu.h"
#include "base/error.h"
#include "lib/kernels/attention/attention_case.h"
#include "support/isa.h"

using namespace hone;
using namespace hone::kernels;
using namespace hone::kernels::test;

namespace {

// Keys `range` … are seen from its first on.
std::vector<int32_t> seen_from(int64_t keys, std::initializer_list<std::pair<int32_t, int32_t>> ranges) {
  std::vector<int32_t> from(static_cast<size_t>(keys));
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<int32_t>(i);
  for (const auto& [first, last] : ranges)
    for (int32_t i = first; i <= last; ++i) from[static_cast<size_t>(i)] = first;
  return from;
}

ReferenceMask mask_of(const AttentionDims& dims, const MaskRule& rule, const std::vector<int32_t>& from) {
  ReferenceMask mask;
  for (int64_t q = dims.query_offset; q < dims.query_offset + dims.queries; ++q)
    for (int64_t k = 0; k < dims.keys; ++k) {
      const bool near = q - k < rule.window || k < rule.sinks;
      mask.visible.push_back(q >= from[static_cast<size_t>(k)] && near);
    }
  return mask;
}

}  // namespace

TEST_CASE("rows that see each other whole equal the plain reference, forward and backward") {
  int64_t first = 0;
  for (const MaskRule& rule : {MaskRule{}, MaskRule{.window = 30}, MaskRule{.window = 70, .sinks = 3}}) {
    int64_t turn = first++;
    for (const int64_t offset : {0, 20, 64}) {
      if (!hone::test::takes_turn(turn++, 3)) continue;
      AttentionDims dims = dims_of(200, 4, 2, 32);
      dims.query_offset = offset;
      dims.keys = offset + 200;
      if (offset == 20) dims.score = alibi(4);
      const auto from = seen_from(dims.keys, {{static_cast<int32_t>(offset), static_cast<int32_t>(offset) + 11},
                                              {static_cast<int32_t>(offset) + 50, static_cast<int32_t>(offset) + 170}});
      const ReferenceMask mask = mask_of(dims, rule, from);
      const auto plan = together_plan({dims.queries, dims.keys, offset}, rule, from);
      CHECK(plan->visible_pairs == std::count(mask.visible.begin(), mask.visible.end(), 1));
      for (DType dtype : {DType::f32, DType::bf16}) {
        Case expected(dtype, dims);
        expected.reference(mask);
        for (Isa level : hone::test::isa_levels_tested()) {
          CAPTURE(name_of(level));
          CAPTURE(rule.window);
          CAPTURE(offset);
          set_isa(level);
          Case actual(dtype, dims);
          actual.forward(*plan);
          actual.backward(*plan);
          check_equal(actual, expected);
        }
      }
    }
  }
  set_isa(isa_levels().back());
}

TEST_CASE("plans of rows that see each other are kept apart by what sees what") {
  const auto from = seen_from(100, {{10, 60}});
  const auto plan = together_plan({100, 100, 0}, {}, from);
  CHECK(together_plan({100, 100, 0}, {}, from) == plan);
  CHECK(causal_plan({100, 100, 0}) != plan);
  CHECK(together_plan({100, 100, 0}, {}, seen_from(100, {{10, 61}})) != plan);
  CHECK_THROWS_AS(together_plan({100, 100, 0}, {}, std::vector<int32_t>(5)), Error);
}
