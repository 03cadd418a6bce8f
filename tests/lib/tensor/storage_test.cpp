// The pool behind storage: blocks come back, and what is kept is bounded.
#include <doctest/doctest.h>

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
