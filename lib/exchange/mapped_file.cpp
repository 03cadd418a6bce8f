#include "exchange/mapped_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "base/atomic_file.h"
#include "base/error.h"
#include "tensor/pages.h"

namespace hone {
namespace {

constexpr int reading = O_RDONLY | O_CLOEXEC | O_NONBLOCK;

}  // namespace

MappedFile::MappedFile(const std::string& path, Descriptors kept) : path_(path), file_(open(path.c_str(), reading)) {
  const auto fail = [&](const std::string& why) { return input_error("cannot read '{}': {}", path, why); };
  struct stat status;
  if (!file_ || fstat(file_.fd(), &status) != 0) throw fail(std::strerror(errno));
  if (!S_ISREG(status.st_mode)) throw fail("it is not a regular file");
  if (status.st_size == 0) throw fail("it is empty");
  storage_ = map_file(file_.fd(), static_cast<uint64_t>(status.st_size));
  if (!storage_) throw fail(std::strerror(errno));
  device_ = status.st_dev;
  inode_ = status.st_ino;
  if (kept == Descriptors::none) file_ = Descriptor();
}

int MappedFile::read(uint64_t at, std::span<std::byte> to) const {
  const Transfer wanted = {to.data(), to.size(), at};
  if (file_) return read_at(file_.fd(), wanted);
  const Descriptor file(open(path_.c_str(), reading));
  struct stat status;
  if (!file || fstat(file.fd(), &status) != 0) return errno;
  return status.st_dev == device_ && status.st_ino == inode_ ? read_at(file.fd(), wanted) : ESTALE;
}

void MappedFile::forget() const {
  let_go(Tensor::over(storage_, 0, {static_cast<int64_t>(storage_->bytes())}, DType::u8));
}

struct OutputFile::Open {
  Open(const std::string& path, bool force)
      : file(path, force), descriptor(open(file.temporary().c_str(), O_WRONLY | O_CLOEXEC)) {
    if (!descriptor) throw failed(errno);
  }
  Error failed(int error) const { return input_error("cannot write '{}': {}", file.target(), std::strerror(error)); }

  AtomicFile file;
  Descriptor descriptor;
  uint64_t written = 0;
};

OutputFile::OutputFile(const std::string& path, bool force) : open_(std::make_unique<Open>(path, force)) {}
OutputFile::~OutputFile() = default;

void OutputFile::write(const void* data, size_t bytes) {
  auto* const from = static_cast<std::byte*>(const_cast<void*>(data));
  const Transfer all = {from, bytes, open_->written};
  if (const int error = write_all(open_->descriptor.fd(), {&all, 1})) throw open_->failed(error);
  open_->written += bytes;
}

uint64_t OutputFile::written() const {
  return open_->written;
}

void OutputFile::commit() {
  open_->file.commit();
}

}  // namespace hone
