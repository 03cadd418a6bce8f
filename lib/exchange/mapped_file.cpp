#include "exchange/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/stop.h"

namespace hone {

MappedFile::MappedFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat status;
  const bool good = fd >= 0 && fstat(fd, &status) == 0;
  const int reason = errno;
  const auto fail = [&](const std::string& why) {
    if (fd >= 0) close(fd);
    return input_error("cannot read '{}': {}", path, why);
  };
  if (!good) throw fail(std::strerror(reason));
  if (!S_ISREG(status.st_mode)) throw fail("it is not a regular file");
  if (status.st_size == 0) throw fail("it is empty");
  const auto bytes = static_cast<size_t>(status.st_size);
  void* data = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  if (data == MAP_FAILED) throw fail(std::strerror(errno));
  close(fd);
  storage_ = Storage::external(data, bytes, std::shared_ptr<void>(data, [bytes](void* p) { munmap(p, bytes); }));
}

void MappedFile::forget() const {
  madvise(const_cast<std::byte*>(storage_->data()), storage_->bytes(), MADV_DONTNEED);
}

struct OutputFile::Open {
  Open(const std::string& path, bool force) : file(path, force) {
    fd = open(file.temporary().c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) throw failed();
  }
  ~Open() {
    if (fd >= 0) close(fd);
  }
  Error failed() const { return input_error("cannot write '{}': {}", file.target(), std::strerror(errno)); }

  AtomicFile file;
  int fd = -1;
  uint64_t written = 0;
};

OutputFile::OutputFile(const std::string& path, bool force) : open_(std::make_unique<Open>(path, force)) {}
OutputFile::~OutputFile() = default;

void OutputFile::write(const void* data, size_t bytes) {
  constexpr size_t most = size_t{64} << 20;  // between two looks at signals
  for (size_t done = 0; done < bytes;) {
    check_stop();
    const ssize_t n = ::write(open_->fd, static_cast<const char*>(data) + done, std::min(bytes - done, most));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw open_->failed();
    done += static_cast<size_t>(n);
  }
  open_->written += bytes;
}

uint64_t OutputFile::written() const {
  return open_->written;
}

void OutputFile::commit() {
  open_->file.commit();
}

}  // namespace hone
