#include "base/cpu.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/error.h"

using namespace hone;

namespace {

const std::vector<Isa> all = {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::amx};

std::string refusal(const char* forced, const std::vector<Isa>& levels) {
  try {
    choose_isa(forced, levels);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    return error.what();
  }
  return "(nothing was thrown)";
}

}  // namespace

TEST_CASE("without HONE_ISA the highest level is used") {
  CHECK(choose_isa(nullptr, all) == Isa::amx);
  CHECK(choose_isa("", all) == Isa::amx);
  CHECK(choose_isa(nullptr, {Isa::portable}) == Isa::portable);
}

TEST_CASE("HONE_ISA chooses any level of the machine by its name") {
  for (const Isa level : all) CHECK(choose_isa(std::string(name_of(level)).c_str(), all) == level);
}

TEST_CASE("HONE_ISA is refused for an unknown level and for one the machine lacks") {
  CHECK(refusal("sse9", all).find("HONE_ISA=sse9: unknown") == 0);
  CHECK(refusal("AVX2", all).find("HONE_ISA=AVX2: unknown") == 0);
  CHECK(refusal("avx512", {Isa::portable, Isa::avx2}) ==
        "HONE_ISA=avx512: this processor has no avx512; its highest level is avx2");
}

TEST_CASE("the machine's levels ascend from portable, and tests can switch between them") {
  const std::vector<Isa> levels = isa_levels();
  REQUIRE(!levels.empty());
  CHECK(levels.front() == Isa::portable);
  for (size_t i = 1; i < levels.size(); ++i) CHECK(levels[i] > levels[i - 1]);
  const Isa before = isa();
  for (const Isa level : levels) {
    set_isa(level);
    CHECK(isa() == level);
  }
  set_isa(before);
}

TEST_CASE("the processor has a name") {
  CHECK(!cpu_model().empty());
}
