#include "io/isolate.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/stop.h"
#include "io/descriptor.h"

namespace hone {
namespace {

using nlohmann::json;

constexpr uint64_t spare_bytes = uint64_t{512} << 20;  // for HDF5's own structures
constexpr uint64_t spare_seconds = 30;
constexpr uint64_t slowest_unpacking = uint64_t{10} << 20;  // bytes a second

bool in_child = false;

uint64_t address_space() {
  unsigned long pages = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%lu", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return static_cast<uint64_t>(pages) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

void limit(int resource, uint64_t value) {
  rlimit bounds;
  if (getrlimit(static_cast<__rlimit_resource>(resource), &bounds) != 0) return;
  bounds.rlim_cur = bounds.rlim_max == RLIM_INFINITY ? value : std::min<rlim_t>(value, bounds.rlim_max);
  setrlimit(static_cast<__rlimit_resource>(resource), &bounds);
}

json answer_of(const std::function<json()>& work) {
  try {
    return {{"found", work()}};
  } catch (const Error& error) {
    return {{"kind", static_cast<int>(error.kind())}, {"message", error.what()}};
  } catch (const std::bad_alloc&) {
    return json::object();
  }
}

// Ends the process. Nothing here may touch what the parent shares with it, such as open streams.
[[noreturn]] void serve(int answer, const std::function<json()>& work) {
  in_child = true;
  // A crash here is an answer, not an event for handlers that belong to the parent.
  for (const int number : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGXCPU}) std::signal(number, SIG_DFL);
  const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere >= 0) dup2(nowhere, STDERR_FILENO);
  limit(RLIMIT_CORE, 0);
  expect_bytes(0);
  try {
    const std::vector<uint8_t> bytes = json::to_cbor(answer_of(work));
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t moved = write(answer, bytes.data() + done, bytes.size() - done);
      if (moved < 0 && errno == EINTR) continue;
      if (moved <= 0) _exit(1);
      done += static_cast<size_t>(moved);
    }
  } catch (...) {
    _exit(1);
  }
  _exit(0);
}

// All that comes through a pipe until the child closes its end.
std::vector<uint8_t> bytes_from(int pipe, pid_t child) {
  std::vector<uint8_t> bytes;
  for (size_t done = 0;;) {
    bytes.resize(done + (64 << 10));
    if (!wait_to_read(pipe)) kill(child, SIGKILL);
    const ssize_t moved = read(pipe, bytes.data() + done, bytes.size() - done);
    if (moved < 0 && errno == EINTR) continue;
    done += static_cast<size_t>(std::max<ssize_t>(moved, 0));
    if (moved <= 0) {
      bytes.resize(done);
      return bytes;
    }
  }
}

}  // namespace

void expect_bytes(uint64_t bytes) {
  if (!in_child) return;
  static uint64_t seconds = spare_seconds;  // of all the work so far, as the system counts them
  seconds += bytes / slowest_unpacking + 1;
  limit(RLIMIT_AS, address_space() + spare_bytes + bytes);
  limit(RLIMIT_CPU, seconds);
}

std::unique_lock<std::mutex> library_here() {
  static std::mutex mutex;
  return std::unique_lock(mutex);
}

#if defined(__SANITIZE_ADDRESS__)
// The sanitizer's own locks stay taken in a child, for ever, where another thread has one while the child is made: one
// that allocates, or that ends, as those of a team do that gets smaller. One that waits for work has none. Whether all
// but this thread wait, for a short while at least.
static bool others_wait() {
  if (gettid() != getpid()) return false;
  const auto waits = [](const std::filesystem::directory_entry& thread) {
    if (thread.path().filename() == std::to_string(gettid())) return true;
    std::ifstream file(thread.path() / "stat");
    const std::string text(std::istreambuf_iterator<char>(file), {});
    const size_t name_ends = text.rfind(')');
    return name_ends != std::string::npos && name_ends + 2 < text.size() && text[name_ends + 2] == 'S';
  };
  for (int look = 0, waiting = 0; look < 500; ++look) {
    std::error_code failed;
    bool all = true;
    for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task", failed))
      all = all && waits(thread);
    waiting = all && !failed ? waiting + 1 : 0;
    if (waiting == 3) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}
#endif

json isolated(const std::function<json()>& work, const std::string& failure) {
  std::unique_lock<std::mutex> library = library_here();
#if defined(__SANITIZE_ADDRESS__)
  if (!others_wait()) return work();
#endif
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return work();
  const Descriptor from(ends[0]);
  Descriptor to(ends[1]);
  const pid_t child = fork();
  if (child < 0) return work();
  if (child > 0) to = Descriptor();  // before another child can inherit it, which would keep it open
  library.unlock();                  // in the child, too: there this thread is all that is left
  if (child == 0) serve(to.fd(), work);
  const std::vector<uint8_t> answer = bytes_from(from.fd(), child);
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) throw internal_error("lost a child process: {}", std::strerror(errno));
  check_stop();
  const bool done = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  const json result = done ? json::from_cbor(answer, true, false) : json();
  if (result.is_object() && result.contains("found")) return result["found"];
  if (result.is_object() && result.contains("message"))
    throw Error(result["kind"].get<ErrorKind>(), result["message"].get<std::string>());
  throw input_error("{} ({})", failure,
                    WIFSIGNALED(status) ? fmt::format("signal {}", WTERMSIG(status)) : "out of memory");
}

}  // namespace hone
