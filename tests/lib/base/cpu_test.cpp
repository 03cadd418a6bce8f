#include "base/cpu.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"

using namespace hone;

namespace {

const std::vector<Isa> all = {Isa::portable, Isa::neon,   Isa::neon_dot,    Isa::neon_bf16,
                              Isa::avx2,     Isa::avx512, Isa::avx512_bf16, Isa::amx};

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
  CHECK(refusal("neon", {Isa::portable, Isa::avx2}) ==
        "HONE_ISA=neon: this processor has no neon; its highest level is avx2");
}

TEST_CASE("the machine's levels ascend from portable, and tests can switch between them") {
  const std::vector<Isa> levels = isa_levels();
  REQUIRE(!levels.empty());
  CHECK(levels.front() == Isa::portable);
  for (size_t i = 1; i < levels.size(); ++i) CHECK(levels[i] > levels[i - 1]);
#if defined(__aarch64__)
  CHECK(levels.size() > 1);  // every 64-bit Arm processor with Linux has neon
  CHECK(levels.back() <= Isa::neon_bf16);
#else
  for (const Isa level : levels) CHECK((level == Isa::portable || level >= Isa::avx2));
#endif
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

TEST_CASE("the CPU quota is the least of the groups around the process, in either version") {
  std::string pattern = (std::filesystem::temp_directory_path() / "hone-base-XXXXXX").string();
  REQUIRE(mkdtemp(pattern.data()));
  const std::string groups = pattern + "/groups", mount = pattern + "/mount";
  const auto write = [&](const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << text;
  };
  CHECK_FALSE(cpu_quota(groups, mount));  // no such file
  write(groups, "0::/a/b\n");
  CHECK_FALSE(cpu_quota(groups, mount));
  write(mount + "/a/b/cpu.max", "max 100000\n");
  CHECK_FALSE(cpu_quota(groups, mount));
  write(mount + "/a/cpu.max", "250000 100000\n");
  CHECK(cpu_quota(groups, mount).value() == 2.5);
  write(mount + "/cpu.max", "50000 100000\n");  // a container's own, whatever path the host has for it
  CHECK(cpu_quota(groups, mount).value() == 0.5);
  write(groups, "3:memory:/\n2:cpu,cpuacct:/x\n1:cpuset:/\n");
  write(mount + "/cpu,cpuacct/x/cpu.cfs_quota_us", "-1\n");
  write(mount + "/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
  CHECK_FALSE(cpu_quota(groups, mount));
  write(mount + "/cpu,cpuacct/x/cpu.cfs_quota_us", "300000\n");
  CHECK(cpu_quota(groups, mount).value() == 3);
  write(groups, "\nnothing of the kind\n::\n1:cpu:\n");
  CHECK_NOTHROW(cpu_quota(groups, mount));
  std::filesystem::remove_all(pattern);
}
