#include "bench/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "base/stop.h"
#include "kernels/parallel.h"

namespace hone {
namespace {

using nlohmann::json;

constexpr int look_ms = 200;       // between looks at a signal that this process caught
constexpr int patience_looks = 2;  // that a copy which got the signal from the terminal, too, has to end by itself

json answer_of(const std::function<json()>& work) {
  try {
    return {{"result", work()}};
  } catch (const Error& error) {
    return {{"status", error.exit_status()}, {"message", error.what()}};
  } catch (const Stopped& stopped) {
    return {{"status", stopped.exit_status()}, {"message", stopped.what()}};
  } catch (const std::bad_alloc&) {
    return {{"status", 1}, {"message", "not enough memory; use a smaller model or context"}};
  } catch (const std::exception& error) {
    return {{"status", 1}, {"message", error.what()}};
  }
}

void write_all(int fd, const std::vector<uint8_t>& bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t moved = write(fd, bytes.data() + done, bytes.size() - done);
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) _exit(1);
    done += static_cast<size_t>(moved);
  }
}

// In the copy. OpenMP's threads do not exist there, and the thread that once started them would wait for them forever:
// a new thread starts its own, and takes settings of its own.
[[noreturn]] void serve(int fd, pid_t parent, int threads, const std::function<json()>& work) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  std::thread([&] {
    kernels::set_threads(threads);
    write_all(fd, json::to_cbor(answer_of(work)));
  }).join();
  _exit(0);
}

// All that comes until the copy closes its end.
std::vector<uint8_t> bytes_from(int fd, pid_t child) {
  std::vector<uint8_t> bytes;
  int looks = 0;
  for (;;) {
    pollfd wait = {fd, POLLIN, 0};
    const int ready = poll(&wait, 1, look_ms);
    if (stop_signal() && looks++ == patience_looks) kill(child, stop_signal());
    if (ready <= 0) continue;  // nothing yet, or a signal
    const size_t done = bytes.size();
    bytes.resize(done + (64 << 10));
    const ssize_t moved = read(fd, bytes.data() + done, bytes.size() - done);
    bytes.resize(done + static_cast<size_t>(std::max<ssize_t>(moved, 0)));
    if (moved == 0 || (moved < 0 && errno != EINTR)) return bytes;
  }
}

// An exit status that no kind has a name for: ErrorKind's values are exit statuses.
Error ended_by(int signal, const std::string& message) {
  return Error(static_cast<ErrorKind>(128 + signal), message);
}

[[noreturn]] void died(const std::string& what, int status) {
  if (!WIFSIGNALED(status)) throw internal_error("{}: its process ended without a result", what);
  const int signal = WTERMSIG(status);
  throw ended_by(signal, fmt::format("{}: its process was ended by signal {} ({}){}", what, signal, strsignal(signal),
                                     signal == SIGKILL ? "; the system may have run out of memory" : ""));
}

}  // namespace

json in_child(const std::string& what, int threads, const std::function<json()>& work) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw internal_error("{}: no pipe: {}", what, std::strerror(errno));
  const pid_t parent = getpid(), child = fork();
  if (child == 0) {
    close(ends[0]);
    serve(ends[1], parent, threads, work);
  }
  close(ends[1]);
  if (child < 0) {
    const int reason = errno;
    close(ends[0]);
    throw internal_error("{}: no process can be started: {}", what, std::strerror(reason));
  }
  const std::vector<uint8_t> bytes = bytes_from(ends[0], child);
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) throw internal_error("{}: lost its process: {}", what, std::strerror(errno));
  check_stop();
  const bool whole = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  const json answer = whole ? json::from_cbor(bytes, true, false) : json();
  if (!answer.is_object()) died(what, status);
  if (answer.contains("message"))
    throw Error(static_cast<ErrorKind>(answer["status"].get<int>()), answer["message"].get<std::string>());
  return answer.at("result");
}

}  // namespace hone
