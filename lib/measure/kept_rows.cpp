#include "measure/kept_rows.h"

#include <fcntl.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "base/error.h"

namespace hone {
namespace {

std::string folder() {
  std::error_code none;
  const auto path = std::filesystem::temp_directory_path(none);
  return none ? "/tmp" : path.string();
}

// Not every file system makes files without a name.
int nameless_file(const std::string& where) {
  const int fd = open(where.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) return fd;
  std::string name = where + "/hone-XXXXXX";
  const int named = mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) unlink(name.c_str());
  return named;
}

// Calls `move(bytes done)` until all is moved. False with errno where that cannot be.
template <class Move>
bool whole(int64_t bytes, Move&& move) {
  for (int64_t done = 0; done < bytes;) {
    const ssize_t moved = move(done);
    if (moved < 0 && errno == EINTR) continue;
    if (moved == 0) errno = EIO;
    if (moved <= 0) return false;
    done += moved;
  }
  return true;
}

}  // namespace

KeptRows::KeptRows(int64_t cols, DType type) : cols_(cols), type_(type), fd_(nameless_file(folder())) {}

KeptRows::~KeptRows() {
  if (fd_ >= 0) close(fd_);
}

bool KeptRows::reserve(int64_t rows) {
  return fd_ >= 0 && (rows == 0 || posix_fallocate(fd_, 0, rows * row_bytes()) == 0);
}

void KeptRows::write(int64_t first, const Tensor& rows) {
  assert(rows.dtype() == type_ && rows.shape().back() == cols_);
  const auto* data = reinterpret_cast<const char*>(rows.raw());
  const auto bytes = static_cast<int64_t>(rows.bytes());
  if (!whole(bytes, [&](int64_t done) {
        return pwrite(fd_, data + done, static_cast<size_t>(bytes - done), first * row_bytes() + done);
      }))
    throw input_error("cannot keep {} bytes more in '{}': {}; set TMPDIR to a folder with more room", bytes, folder(),
                      std::strerror(errno));
}

Tensor KeptRows::read(int64_t first, int64_t count) const {
  const Tensor rows = Tensor::empty({count, cols_}, type_);
  auto* data = reinterpret_cast<char*>(rows.raw());
  const auto bytes = static_cast<int64_t>(rows.bytes());
  if (!whole(bytes, [&](int64_t done) {
        return pread(fd_, data + done, static_cast<size_t>(bytes - done), first * row_bytes() + done);
      }))
    throw internal_error("rows {} to {} that were kept cannot be read: {}", first, first + count, std::strerror(errno));
  return rows;
}

}  // namespace hone
