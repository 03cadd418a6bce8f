// File descriptors, and moving many bytes at once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/parallel.h"
#include "tensor/tensor.h"

namespace hone {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  explicit operator bool() const { return fd_ >= 0; }
  int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

// Calls f(i) for each i in [0, n), on all threads if they have enough `bytes` to work on to be worth waking. f must not
// throw.
template <class F>
void for_each_of(int64_t n, uint64_t bytes, F&& f) {
  if (bytes >= uint64_t{1} << 20) {
    kernels::parallel_each(n, f);
  } else {
    for (int64_t i = 0; i < n; ++i) f(i);
  }
}

// Bytes in memory and their place in a file.
struct Transfer {
  std::byte* data;
  uint64_t bytes;
  uint64_t offset;
};

// Moves all of them on all threads. Return 0 or an errno of those that failed; reading past the end is EIO. Throw Stopped.
int write_all(int fd, std::span<const Transfer> transfers);
int read_all(int fd, std::span<const Transfer> transfers);

// One of them by the calling thread alone: within loops over threads. Throw nothing.
int write_at(int fd, Transfer transfer);
int read_at(int fd, Transfer transfer);

// The first `bytes` (> 0) of a file as read-only storage, unmapped with its last user; null and errno where that fails.
// A file that another program cuts short while it is mapped ends this process (SIGBUS): tools must replace files, as
// AtomicFile does, not rewrite them.
std::shared_ptr<Storage> map_file(int fd, uint64_t bytes);

}  // namespace hone
