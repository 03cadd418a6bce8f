#include "base/temporary.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/target.h"

namespace hone {
namespace {

namespace fs = std::filesystem;

// FNV-1a: the same in every build, as names outlive a process.
uint64_t hash_of(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

// Process numbers mean something within one machine and one namespace of them (a container has its own).
const std::string& machine_tag() {
  static const std::string tag = [] {
    std::array<char, 256> host = {};
    gethostname(host.data(), host.size() - 1);
    struct stat space = {};
    stat("/proc/self/ns/pid", &space);
    return fmt::format("{:08x}", hash_of(fmt::format("{}/{}", host.data(), space.st_ino)) & 0xffffffff);
  }();
  return tag;
}

// NAME.tmp.MACHINE.PROCESS.NUMBER; of a name that is too long for that its hash instead.
std::string prefix_for(const std::string& file) {
  std::string name = fs::path(file).filename();
  constexpr size_t rest = sizeof(".tmp.01234567.4194304.1234567890") - 1;
  if (name.size() + rest > longest_name(directory_of(file))) name = fmt::format(".hone-{:016x}", hash_of(name));
  return fmt::format("{}.tmp.{}.", name, machine_tag());
}

bool alive(int process) {
  return kill(process, 0) == 0 || errno == EPERM;
}

}  // namespace

size_t longest_name(const std::string& directory) {
  const long longest = pathconf(directory.c_str(), _PC_NAME_MAX);
  return longest > 0 ? static_cast<size_t>(longest) : 255;
}

std::string make_temporary(const std::string& file, const std::string& shown) {
  static std::atomic<unsigned> number{0};
  const fs::path directory = fs::path(file).parent_path();
  for (;;) {
    const std::string path = directory / fmt::format("{}{}.{}", prefix_for(file), getpid(), ++number);
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) {
      close(fd);
      return path;
    }
    if (errno != EEXIST) throw input_error("cannot write '{}': {}", shown, std::strerror(errno));
  }
}

void clear_leftovers(const std::string& file) {
  static std::mutex mutex;
  static std::set<std::string> seen;
  if (const std::lock_guard lock(mutex); !seen.insert(file).second) return;
  const std::string prefix = prefix_for(file);
  std::error_code code;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory_of(file), code)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with(prefix)) continue;
    int process = 0;
    const auto [end, error] = std::from_chars(name.data() + prefix.size(), name.data() + name.size(), process);
    if (error != std::errc() || *end != '.' || process <= 0 || alive(process)) continue;
    std::error_code ignored;
    if (entry.is_regular_file(ignored) && fs::remove(entry.path(), ignored))
      log_info("removed '{}', which a killed run left", entry.path().string());
  }
}

}  // namespace hone
