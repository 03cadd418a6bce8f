// The pool behind storage: blocks come back, and what is kept is bounded.
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "base/random.h"
#include "tensor/tensor.h"

using namespace hone;

TEST_CASE("a freed block serves the next request of its size, or of a little less") {
  release_pool();
  const std::byte* first = Tensor::empty({100000}).raw();
  const size_t before = pool_system_allocations();
  CHECK(Tensor::empty({100000}).raw() == first);
  CHECK(Tensor::empty({95000}).raw() == first);
  CHECK(pool_system_allocations() == before);
  CHECK(Tensor::empty({50000}).raw() != first);  // half of it would be waste
  CHECK(pool_system_allocations() == before + 1);
}

TEST_CASE("a large block serves what is at least half as large, and counts as what it serves") {
  release_pool();
  constexpr int64_t megabyte = 1 << 20;
  const std::byte* first = Tensor::empty({16 * megabyte}, DType::u8).raw();
  const size_t before = pool_system_allocations(), used = pool_used_bytes();
  {
    const Tensor half = Tensor::empty({8 * megabyte}, DType::u8);
    CHECK(half.raw() == first);
    CHECK(pool_used_bytes() == used + 8 * megabyte);
    CHECK(pool_kept_bytes() == 0);
  }
  CHECK(pool_used_bytes() == used);
  CHECK(pool_kept_bytes() == 16 * megabyte);
  CHECK(Tensor::empty({16 * megabyte}, DType::u8).raw() == first);
  CHECK(pool_system_allocations() == before);
  CHECK(Tensor::empty({6 * megabyte}, DType::u8).raw() != first);
  CHECK(pool_system_allocations() == before + 1);
  release_pool();
}

TEST_CASE("what is wasted of large blocks is bounded") {
  release_pool();
  constexpr int64_t megabyte = 1 << 20;
  {
    const Tensor large[] = {Tensor::empty({60 * megabyte}, DType::u8), Tensor::empty({60 * megabyte}, DType::u8),
                            Tensor::empty({60 * megabyte}, DType::u8)};
  }
  const size_t before = pool_system_allocations();
  const Tensor first = Tensor::empty({30 * megabyte}, DType::u8), second = Tensor::empty({30 * megabyte}, DType::u8);
  CHECK(pool_system_allocations() == before);
  const Tensor third = Tensor::empty({30 * megabyte}, DType::u8);  // 90 MB would be wasted
  CHECK(pool_system_allocations() == before + 1);
  release_pool();
}

// As a router makes them: no two prompts have rows of the same number. Nothing is written, so that no page is taken.
TEST_CASE("many prompts of a mixture find their memory where those before left it") {
  release_pool();
  Random random(1, "prompts");
  const size_t others = pool_used_bytes();
  size_t allocations = 0, most = 0, at_last = 0;
  for (int prompt = 0; prompt < 100; ++prompt) {
    if (prompt == 10) allocations = pool_system_allocations();
    std::vector<Tensor> outputs;
    const auto rows = static_cast<int64_t>(512 + random.below(3584));
    for (int layer = 0; layer < 3; ++layer) {
      const Tensor hidden = Tensor::empty({rows, 3072}, DType::bf16);
      outputs.push_back(Tensor::empty({rows, 1536}, DType::bf16));
      most = std::max(most, pool_used_bytes() - others);
    }
    outputs.clear();
    at_last = pool_kept_bytes();
  }
  CHECK(pool_system_allocations() - allocations <= 30);  // of 540 arrays
  CHECK(at_last <= 2 * most + (size_t{64} << 20));
  release_pool();
}

TEST_CASE("what is kept of freed storage is bounded, however the sizes vary") {
  release_pool();
  const Tensor most = Tensor::empty({int64_t{32} << 20}, DType::u8);
  size_t largest = 0;
  for (int64_t i = 0; i < 400; ++i) {
    const Tensor varying = Tensor::empty({(int64_t{1} << 20) + i * (int64_t{1} << 18)}, DType::u8);
    largest = std::max(largest, pool_kept_bytes());
  }
  constexpr size_t megabyte = size_t{1} << 20;
  CHECK(largest > 64 * megabyte);
  CHECK(pool_kept_bytes() <= 2 * (32 + 101 + 2) * megabyte + 64 * megabyte - 32 * megabyte);
  release_pool();
  CHECK(pool_kept_bytes() == 0);
}
