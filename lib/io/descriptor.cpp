#include "io/descriptor.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "base/stop.h"

namespace hone {
namespace {

constexpr uint64_t piece_bytes = uint64_t{4} << 20;

// Calls `some(data, bytes, offset)`, a pread or pwrite, until everything is moved; it may move less than it was asked
// to.
template <class Some>
int move_whole(Transfer rest, Some some) {
  while (rest.bytes > 0) {
    const ssize_t moved = some(rest.data, rest.bytes, static_cast<off_t>(rest.offset));
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return moved < 0 ? errno : EIO;
    rest.data += moved;
    rest.bytes -= static_cast<uint64_t>(moved);
    rest.offset += static_cast<uint64_t>(moved);
  }
  return 0;
}

int move_all(int fd, std::span<const Transfer> transfers, int (*move_one)(int fd, Transfer transfer)) {
  std::vector<Transfer> pieces;
  uint64_t bytes = 0;
  for (const Transfer& t : transfers) bytes += t.bytes;
  for (const Transfer& t : transfers)
    for (uint64_t begin = 0; begin < t.bytes; begin += piece_bytes)
      pieces.push_back({t.data + begin, std::min(piece_bytes, t.bytes - begin), t.offset + begin});
  std::atomic<int> error{0};
  for_each_of(static_cast<int64_t>(pieces.size()), bytes, [&](int64_t i) {
    if (error != 0 || stop_wanted()) return;
    if (const int found = move_one(fd, pieces[static_cast<size_t>(i)])) error = found;
  });
  check_stop();
  return error;
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) close(fd_);
}

int write_at(int fd, Transfer transfer) {
  return move_whole(transfer,
                    [fd](const void* data, size_t bytes, off_t offset) { return pwrite(fd, data, bytes, offset); });
}

int read_at(int fd, Transfer transfer) {
  return move_whole(transfer, [fd](void* data, size_t bytes, off_t offset) { return pread(fd, data, bytes, offset); });
}

int write_all(int fd, std::span<const Transfer> transfers) {
  return move_all(fd, transfers, write_at);
}

int read_all(int fd, std::span<const Transfer> transfers) {
  return move_all(fd, transfers, read_at);
}

std::shared_ptr<Storage> map_file(int fd, uint64_t bytes) {
  void* start = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  if (start == MAP_FAILED) return nullptr;
  const auto unmap = [bytes](void* p) { munmap(p, bytes); };
  return Storage::external(start, bytes, std::shared_ptr<void>(start, unmap));
}

}  // namespace hone
