#include "bench/ceilings_cache.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/atomic_file.h"
#include "base/cpu.h"
#include "base/log.h"

using namespace hone;
namespace fs = std::filesystem;

namespace {

// A cache directory of its own for the length of a test.
class CacheDirectory {
 public:
  CacheDirectory() : path_(fs::temp_directory_path() / ("hone-ceilings-" + std::to_string(getpid()))) {
    fs::remove_all(path_);
    setenv("HONE_CACHE_DIR", (path_ / "deep" / "er").c_str(), 1);
  }
  ~CacheDirectory() {
    unsetenv("HONE_CACHE_DIR");
    fs::remove_all(path_);
  }
  CacheDirectory(const CacheDirectory&) = delete;
  CacheDirectory& operator=(const CacheDirectory&) = delete;

 private:
  fs::path path_;
};

kernels::Ceilings some() {
  kernels::Ceilings ceilings;
  ceilings.read_bytes_per_second = 4.7e10;
  ceilings.f32_flops_per_second = 2.28e11;
  ceilings.bf16_flops_per_second = 4.48e11;
  return ceilings;
}

}  // namespace

TEST_CASE("a cached measurement is used as it is") {
  const CacheDirectory directory;
  const std::string path = ceilings_path(2);
  CHECK(path != ceilings_path(1));
  save_ceilings(path, 2, some());
  const kernels::Ceilings read = machine_ceilings(2);
  CHECK(read.read_bytes_per_second == 4.7e10);
  CHECK(read.f32_flops_per_second == 2.28e11);
  CHECK(read.bf16_flops_per_second == 4.48e11);
  kernels::Ceilings other;
  CHECK(!load_ceilings(path, 1, other));              // not its number of threads
  CHECK(!load_ceilings(ceilings_path(1), 1, other));  // no such file
}

TEST_CASE("a cache of another instruction set is not used") {
  const CacheDirectory directory;
  const std::string path = ceilings_path(2);
  save_ceilings(path, 2, some());
  const Isa before = isa();
  if (before == Isa::portable) return;  // the machine has one level only
  set_isa(Isa::portable);
  kernels::Ceilings read;
  CHECK(ceilings_path(2) != path);
  CHECK(!load_ceilings(path, 2, read));
  set_isa(before);
}

TEST_CASE("a corrupt cache is not used") {
  const CacheDirectory directory;
  const std::string path = ceilings_path(2);
  save_ceilings(path, 2, some());
  const std::string good = read_text_file(path);
  kernels::Ceilings read;
  REQUIRE(load_ceilings(path, 2, read));
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    REQUIRE(text.find(from) != std::string::npos);
    return text.replace(text.find(from), from.size(), to);
  };
  for (const std::string& bad :
       {std::string(), std::string("{}"), std::string("[1]"), good.substr(0, good.size() / 2),
        changed("read_bytes_per_second", "red_bytes"), changed("47000000000.0", "-1"),
        changed("47000000000.0", "\"fast\""), changed("\"schema_version\": 1", "\"schema_version\": 2")}) {
    CAPTURE(bad);
    write_text_file(path, bad);
    CHECK(!load_ceilings(path, 2, read));
  }
}

TEST_CASE("the directory is HONE_CACHE_DIR, else XDG_CACHE_HOME/hone, else ~/.cache/hone, else none") {
  const auto saved = [](const char* name) { return std::string(std::getenv(name) ? std::getenv(name) : ""); };
  const std::string home = saved("HOME"), cache = saved("XDG_CACHE_HOME");
  setenv("HONE_CACHE_DIR", "/a", 1);
  setenv("XDG_CACHE_HOME", "/b", 1);
  setenv("HOME", "/c", 1);
  CHECK(ceilings_path(2).find("/a/ceilings-") == 0);
  unsetenv("HONE_CACHE_DIR");
  CHECK(ceilings_path(2).find("/b/hone/ceilings-") == 0);
  unsetenv("XDG_CACHE_HOME");
  CHECK(ceilings_path(2).find("/c/.cache/hone/ceilings-") == 0);
  unsetenv("HOME");
  CHECK(ceilings_path(2).empty());
  if (!home.empty()) setenv("HOME", home.c_str(), 1);
  if (!cache.empty()) setenv("XDG_CACHE_HOME", cache.c_str(), 1);
}

TEST_CASE("refresh measures anew, and a directory that cannot be written is no error") {
  set_log_level(LogLevel::error);
  {
    const CacheDirectory directory;
    save_ceilings(ceilings_path(1), 1, {.read_bytes_per_second = 1, .f32_flops_per_second = 1});
    CHECK(machine_ceilings(1).read_bytes_per_second == 1);
    CHECK(machine_ceilings(1, true).read_bytes_per_second > 1);
  }
  setenv("HONE_CACHE_DIR", __FILE__, 1);  // not a directory
  CHECK(machine_ceilings(1, false, [](DType, int) { return 1e30; }).f32_flops_per_second == 1e30);
  unsetenv("HONE_CACHE_DIR");
  set_log_level(LogLevel::info);
}
