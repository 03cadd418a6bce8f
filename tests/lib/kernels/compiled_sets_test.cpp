#include "kernels/compiled_sets.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

using namespace hone;

// A set that is missing would be no error, but a lower one that runs in its place.
TEST_CASE("every instruction set of the processor's family is compiled") {
  std::vector<Isa> expected = {Isa::portable};
#if defined(__x86_64__)
  for (const Isa level : {Isa::avx2, Isa::avx512, Isa::avx512_bf16}) expected.push_back(level);
#elif defined(__aarch64__)
  for (const Isa level : {Isa::neon, Isa::neon_dot, Isa::neon_bf16}) expected.push_back(level);
#endif
#if defined(__SANITIZE_ADDRESS__) && defined(__x86_64__)  // only those that this machine runs
  std::erase_if(expected, [](Isa level) { return level > isa_levels().back(); });
  if (std::ranges::find(expected, Isa::avx512_bf16) != expected.end()) std::erase(expected, Isa::avx512);
#endif
  CHECK(std::ranges::equal(kernels::compiled_sets(), expected));
}
