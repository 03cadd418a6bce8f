#include "cli/bench_memory.h"

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <exception>
#include <thread>

#include "base/log.h"
#include "base/stop.h"

namespace hone::cli {
namespace {

void write_numbers(int fd, const std::vector<int64_t>& numbers) {
  const char* at = reinterpret_cast<const char*>(numbers.data());
  for (size_t left = numbers.size() * sizeof(int64_t); left > 0;) {
    const ssize_t written = write(fd, at, left);
    if (written <= 0) return;
    at += written;
    left -= static_cast<size_t>(written);
  }
}

// In the copy. OpenMP's threads do not exist there, and the thread that once started them would wait for them forever;
// a new thread starts its own.
[[noreturn]] void child(int fd, const std::function<std::vector<int64_t>()>& work) {
  set_log_level(LogLevel::error);
  int status = 1;
  std::thread([&] {
    try {
      write_numbers(fd, work());
      status = 0;
    } catch (const std::exception&) {  // the parent meets the same error and reports it
    }
  }).join();
  _exit(status);
}

}  // namespace

std::vector<int64_t> in_own_process(const std::function<std::vector<int64_t>()>& work) {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) return {};
  const pid_t pid = fork();
  if (pid == 0) {
    close(ends[0]);
    child(ends[1], work);
  }
  close(ends[1]);
  std::vector<int64_t> numbers;
  if (pid > 0) {
    int64_t number = 0;
    while ((wait_to_read(ends[0]) || kill(pid, SIGKILL) == 0) &&
           read(ends[0], &number, sizeof number) == static_cast<ssize_t>(sizeof number))
      numbers.push_back(number);
    int status = 0;
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) numbers.clear();
  }
  close(ends[0]);
  check_stop();
  return numbers;
}

}  // namespace hone::cli
