#include "bench/ceilings_cache.h"

#include <cctype>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/spelling.h"
#include "base/version.h"

namespace hone {
namespace {

using Json = nlohmann::ordered_json;

constexpr double fair_share = 0.85;  // of the cores; below it a measurement says more of the other processes

std::string cache_directory() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  if (const std::string own = variable("HONE_CACHE_DIR"); !own.empty()) return own;
  if (const std::string cache = variable("XDG_CACHE_HOME"); !cache.empty()) return cache + "/hone";
  if (const std::string home = variable("HOME"); !home.empty()) return home + "/.cache/hone";
  return {};
}

Json key(int threads) {
  return {{"cpu", cpu_model()}, {"isa", name_of(isa())}, {"threads", threads}, {"version", version()}};
}

// What a file name may hold everywhere: "AMD EPYC 9R14 (2.6 GHz)" -> "amd-epyc-9r14-2-6-ghz".
std::string plain_name(const std::string& text) {
  std::string result;
  for (const char c : lower_case(text)) {
    if (std::isalnum(static_cast<unsigned char>(c)))
      result += c;
    else if (!result.empty() && result.back() != '-')
      result += '-';
  }
  while (result.ends_with('-')) result.pop_back();
  return result;
}

}  // namespace

std::string ceilings_path(int threads) {
  const std::string directory = cache_directory();
  if (directory.empty()) return {};
  return fmt::format("{}/ceilings-{}-{}-{}threads-{}.json", directory, plain_name(cpu_model()), name_of(isa()), threads,
                     version());
}

void save_ceilings(const std::string& path, int threads, const kernels::Ceilings& ceilings) {
  Json json = {{"schema_version", 1}, {"key", key(threads)}};
  json["read_bytes_per_second"] = ceilings.read_bytes_per_second;
  json["f32_flops_per_second"] = ceilings.f32_flops_per_second;
  json["bf16_flops_per_second"] = ceilings.bf16_flops_per_second;
  std::error_code ignored;  // the write below says what is wrong
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  write_text_file(path, json.dump(2) + "\n");
}

bool load_ceilings(const std::string& path, int threads, kernels::Ceilings& ceilings) {
  try {
    const nlohmann::json json = require_json(read_text_file(path), "the cache");
    if (json.at("schema_version") != 1 || json.at("key") != nlohmann::json(key(threads))) return false;
    kernels::Ceilings read;
    read.read_bytes_per_second = json.at("read_bytes_per_second").get<double>();
    read.f32_flops_per_second = json.at("f32_flops_per_second").get<double>();
    read.bf16_flops_per_second = json.at("bf16_flops_per_second").get<double>();
    if (!(read.read_bytes_per_second > 0 && read.f32_flops_per_second > 0 && read.bf16_flops_per_second >= 0))
      return false;
    ceilings = read;
    return true;
  } catch (const Error&) {  // no such file, or no JSON in it
    return false;
  } catch (const Json::exception& error) {
    log_debug("'{}' is not a cache of ceilings: {}", path, error.what());
    return false;
  }
}

kernels::Ceilings machine_ceilings(int threads, bool refresh, kernels::ProductRate product_rate) {
  const std::string path = ceilings_path(threads);
  kernels::Ceilings ceilings;
  if (!refresh && !path.empty() && load_ceilings(path, threads, ceilings)) return ceilings;
  log_info("measuring the read bandwidth and matrix peak of this machine with {}", counted(threads, "thread"));
  ceilings = kernels::measure_ceilings(threads, product_rate);
  if (ceilings.core_share < fair_share) {
    log_warning(
        "other processes had the cores for {:.0f}% of the time: the machine's ceilings are measured too low and not "
        "cached",
        100 * (1 - ceilings.core_share));
    return ceilings;
  }
  if (path.empty()) return ceilings;
  try {
    save_ceilings(path, threads, ceilings);
  } catch (const Error& error) {
    log_debug("ceilings are not cached: {}", error.what());
  }
  return ceilings;
}

}  // namespace hone
