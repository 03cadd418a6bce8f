#include "kernels/ceilings.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <memory>

#include "base/cpu.h"
#include "base/random.h"
#include "kernels/isa/kernel_set.h"
#include "kernels/parallel.h"
#include "support/isa.h"

using namespace hone;
using namespace hone::kernels;
using hone::test::at_every_isa;

namespace {

bool multiplies_halves() {
  return isa() >= Isa::avx512_bf16 || isa() == Isa::neon_bf16;
}

}  // namespace

TEST_CASE("the reading loop reads every word, at every level") {
  constexpr int64_t pages = 5, count = pages * CeilingFunctions::page / 8;
  struct alignas(64) Block {
    uint64_t words[count];
  };
  const auto block = std::make_unique<Block>();
  Random random(1, "words");
  uint64_t sum = 0;
  for (uint64_t& word : block->words) sum += word = random.next();
  at_every_isa([&] {
    CHECK(kernel_set().ceilings.read(block.get(), pages) == sum);
    CHECK(kernel_set().ceilings.read(block.get(), 0) == 0);
  });
}

TEST_CASE("the multiply-add loops do the operations they count, at every level") {
  at_every_isa([&] {
    const CeilingFunctions& functions = kernel_set().ceilings;
    CHECK(functions.f32_flops > 0);
    CHECK(functions.f32(1) == static_cast<float>(functions.f32_flops) / 2);      // x = 1
    CHECK(functions.f32(2) == static_cast<float>(functions.f32_flops) * 0.75f);  // x = 1.5
    CHECK(functions.f32(100) == static_cast<float>(functions.f32_flops));        // x = 2
    CHECK((functions.bf16 != nullptr) == multiplies_halves());
    if (functions.bf16) CHECK(functions.bf16(10) == static_cast<float>(functions.bf16_flops) / 4 * 5);
  });
}

TEST_CASE("measurements are positive and leave the number of threads as it was") {
  const int before = threads();
  at_every_isa([&] {
    CHECK(measure_read_bandwidth(2, 1 << 20, 0) > 0);
    CHECK(measure_flops(DType::f32, 2, 0) > 0);
    CHECK((measure_flops(DType::bf16, 1, 0) > 0) == multiplies_halves());
  });
  CHECK(threads() == before);
}
