#include "ops/head_norm.h"

#include <doctest/doctest.h>

#include <cmath>

#include "support/check.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr int64_t heads = 4, kv_heads = 2, head_dim = 10, width = (heads + 2 * kv_heads) * head_dim;
constexpr float epsilon = 1e-3f;

Parameter gain(uint64_t seed, int64_t numbers = head_dim) {
  Parameter p;
  p.value = random_tensor({numbers}, seed);
  return p;
}

}  // namespace

TEST_CASE("head_norm divides queries and keys by their size and leaves values as they are") {
  at_every_isa([] {
    const Tensor x = random_tensor({5, width}, 1);
    Parameter queries = gain(2), keys = gain(3);
    const Tensor y = ops::head_norm(Var(x), heads, kv_heads, queries, keys, epsilon).value();
    const Tensor expected = x.clone();
    for (int64_t r = 0; r < 5; ++r)
      for (int64_t h = 0; h < heads + kv_heads; ++h) {
        float* head = expected.data<float>() + r * width + h * head_dim;
        double squares = 0;
        for (int64_t c = 0; c < head_dim; ++c) squares += static_cast<double>(head[c]) * static_cast<double>(head[c]);
        for (int64_t c = 0; c < head_dim; ++c)
          head[c] = static_cast<float>(static_cast<double>(head[c]) / std::sqrt(squares / head_dim + 1e-3) *
                                       static_cast<double>((h < heads ? queries : keys).value.data<float>()[c]));
      }
    CHECK(relative_error(y, expected) < 1e-6);
    const Tensor rounded = ops::head_norm(Var(x.to(DType::bf16)), heads, kv_heads, queries, keys, epsilon).value();
    CHECK(rounded.dtype() == DType::bf16);
    CHECK(relative_error(rounded, expected) < 1e-2);
  });
}

TEST_CASE("head_norm: gradients of what goes in and of both gains") {
  at_every_isa([] {
    const Tensor x = random_tensor({3, width}, 1);
    Parameter queries = gain(2), keys = gain(3);
    Var input(x, true);
    const auto run = [&] { return ops::head_norm(input, heads, kv_heads, queries, keys, epsilon); };
    check_gradients(
        run, {x, queries.value, keys.value},
        [&](size_t i) { return i == 0   ? input.grad()
                               : i == 1 ? queries.grad
                                        : keys.grad; }, 2e-3);
  });
}

TEST_CASE("head_norm: all queries as one head, and all keys as another of another width") {
  at_every_isa([] {
    const int64_t all_queries = heads * head_dim, all_keys = kv_heads * head_dim;
    const Tensor x = random_tensor({3, width}, 1);
    Parameter queries = gain(2, all_queries), keys = gain(3, all_keys);
    Var input(x, true);
    const auto run = [&] { return ops::head_norm(input, 1, 1, queries, keys, epsilon); };
    const Tensor y = run().value(), expected = x.clone();
    for (int64_t r = 0; r < 3; ++r)
      for (const Parameter* p : {&queries, &keys}) {
        float* part = expected.data<float>() + r * width + (p == &queries ? 0 : all_queries);
        const int64_t n = p->value.size();
        double squares = 0;
        for (int64_t c = 0; c < n; ++c) squares += static_cast<double>(part[c]) * static_cast<double>(part[c]);
        for (int64_t c = 0; c < n; ++c)
          part[c] =
              static_cast<float>(static_cast<double>(part[c]) / std::sqrt(squares / static_cast<double>(n) + 1e-3) *
                                 static_cast<double>(p->value.data<float>()[c]));
      }
    CHECK(relative_error(y, expected) < 1e-6);
    check_gradients(
        run, {x, queries.value, keys.value},
        [&](size_t i) { return i == 0   ? input.grad()
                               : i == 1 ? queries.grad
                                        : keys.grad; }, 2e-3);
  });
}
