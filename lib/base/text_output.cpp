#include "base/text_output.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/stop.h"

namespace hone {
namespace {

// Makes writing to a pipe that nobody reads fail, where it would end the process, and with it work that is not written
// yet. The signal that the failed write raises is taken before anybody sees it.
class NoPipeSignal {
 public:
  NoPipeSignal() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    pending_before_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~NoPipeSignal() {
    const timespec now = {};
    if (!pending_before_) sigtimedwait(&pipe_, nullptr, &now);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  NoPipeSignal(const NoPipeSignal&) = delete;
  NoPipeSignal& operator=(const NoPipeSignal&) = delete;

 private:
  sigset_t pipe_, before_;
  bool pending_before_ = false;
};

// 0, or the errno of what failed.
int write_to(int fd, std::string_view text) {
  const NoPipeSignal guard;
  while (!text.empty()) {
    const ssize_t moved = ::write(fd, text.data(), text.size());
    if (moved >= 0) {
      text.remove_prefix(static_cast<size_t>(moved));
    } else if (errno == EAGAIN) {
      pollfd wait = {fd, POLLOUT, 0};
      poll(&wait, 1, 100);
    } else if (errno != EINTR) {
      return errno;
    }
    if (!text.empty()) check_stop();
  }
  return 0;
}

Error failed(const Target& target, int error) {
  return input_error("cannot write {}: {}",
                     target.name == "-" ? "to standard output" : fmt::format("'{}'", target.name),
                     std::strerror(error));
}

}  // namespace

void require_text_writable(const std::string& path, bool force) {
  const Target target = resolve_target(path);
  if (!target.stream) return require_writable(path, force);
  if (target.descriptor < 0 && access(target.file.c_str(), W_OK) != 0) throw failed(target, errno);
}

TextOutput::TextOutput(const std::string& path, bool force) : force_(force) {
  if (path.empty()) return;
  require_text_writable(path, force);
  target_ = resolve_target(path);
  file_ = target_.file;
}

TextOutput TextOutput::checked_before(const std::string& path, bool force) {
  TextOutput output;
  output.force_ = force;
  output.target_ = target_by_now(path);
  output.file_ = output.target_.file;
  return output;
}

TextOutput::~TextOutput() {
  close_own();
}

TextOutput::TextOutput(TextOutput&& other) noexcept {
  *this = std::move(other);
}

TextOutput& TextOutput::operator=(TextOutput&& other) noexcept {
  std::swap(target_, other.target_);
  std::swap(file_, other.file_);
  std::swap(force_, other.force_);
  std::swap(fd_, other.fd_);
  return *this;
}

void TextOutput::close_own() {
  if (fd_ >= 0 && fd_ != target_.descriptor) close(fd_);
  fd_ = -1;
}

// A pipe with a name waits here for its reader.
void TextOutput::open_stream() {
  if (target_.descriptor >= 0) {
    if (target_.descriptor == STDOUT_FILENO) std::fflush(stdout);  // what was printed before comes before
    fd_ = target_.descriptor;
  }
  if (fd_ >= 0) return;
  while ((fd_ = open(target_.file.c_str(), O_WRONLY | O_APPEND | O_NOCTTY | O_CLOEXEC)) < 0) {
    if (errno != EINTR) throw failed(target_, errno);
    check_stop();
  }
}

std::string TextOutput::write(std::string_view text) {
  if (!*this) return {};
  if (target_.stream) {
    open_stream();
    if (const int error = write_to(fd_, text)) throw failed(target_, error);
    return target_.name;
  }
  close_own();
  const StopLater whole;  // a report is small
  AtomicFile file(file_, force_, IfTaken::beside);
  const int fd = open(file.temporary().c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) throw failed(target_, errno);
  const int error = write_to(fd, text);
  close(fd);
  if (error) throw failed(target_, error);
  file_ = file.commit();
  force_ = true;  // from now on it is ours
  return file_ == target_.file ? target_.name : file_;
}

void TextOutput::append(std::string_view text) {
  if (!*this) return;
  if (target_.stream) {
    write(text);
    return;
  }
  if (fd_ < 0) fd_ = open(file_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) throw failed(target_, errno);
  const off_t end = lseek(fd_, 0, SEEK_END);
  const StopLater whole;
  if (const int error = write_to(fd_, text)) {
    static_cast<void>(ftruncate(fd_, end) == 0);
    throw failed(target_, error);
  }
}

}  // namespace hone
