#include "measure/memory.h"

#include <fstream>
#include <string>
#include <string_view>

namespace hone {
namespace {

int64_t status_kilobytes(std::string_view field) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(field)) return std::stoll(line.substr(field.size()));
  return 0;
}

}  // namespace

int64_t rss_bytes() {
  return status_kilobytes("VmRSS:") * 1024;
}

int64_t peak_rss_bytes() {
  return status_kilobytes("VmHWM:") * 1024;
}

bool reset_peak_rss() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;  // proc(5): resets the peak resident set size
  return file.good();
}

}  // namespace hone
