#include "ops/attention.h"

#include <doctest/doctest.h>

#include "support/check.h"

using namespace hone;
using namespace hone::test;

TEST_CASE("attention: gradients of queries, keys and values, with scores of each kind") {
  constexpr int64_t batch = 2, length = 6, heads = 4, kv_heads = 2, head_dim = 5;
  at_every_isa([] {
    for (const kernels::ScoreRule& score :
         {kernels::ScoreRule{}, {kernels::score_named("softcap"), 2.0f}, {kernels::score_named("alibi"), 0, 2, 6}}) {
      kernels::AttentionDims dims{batch, length, length, heads, kv_heads, head_dim, 0.4f, 0, score};
      const Tensor qkv = random_tensor({batch * length, (heads + 2 * kv_heads) * head_dim}, 1);
      Var input(qkv, true);
      const auto plan = kernels::causal_plan({length, length, 0});
      check_gradients(
          [&] {
            return ops::attention(input, {{dims, 0, plan}});
          },
          {qkv}, [&](size_t) { return input.grad(); }, 5e-3);
    }
  });
}
