// Files of others: one mapped for reading, and one written from its beginning to its end.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "io/descriptor.h"
#include "tensor/tensor.h"

namespace hone {

// A whole file.
class MappedFile {
 public:
  // One of many files of a model is opened for each read and closed behind it, since a process may have some hundreds
  // of descriptors only.
  enum class Descriptors { one, none };

  // Throws Error(input) for what is missing, empty or no regular file.
  explicit MappedFile(const std::string& path, Descriptors kept = Descriptors::one);
  std::span<const std::byte> bytes() const { return {storage_->data(), storage_->bytes()}; }
  // Gives memory that reading has taken back to the system; what is read again comes from the file again.
  void forget() const;
  // Copies bytes from `at` on, without a page of the mapping: for what is read once, of which pages would take longer
  // than bytes. By any thread; returns 0, or an errno where the file fails, has become shorter or is another by now.
  int read(uint64_t at, std::span<std::byte> to) const;

 private:
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  Descriptor file_;  // none: opened for each read
  std::shared_ptr<Storage> storage_;
};

// A file written from its beginning to its end, as AtomicFile: whole or not at all.
class OutputFile {
 public:
  OutputFile(const std::string& path, bool force);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  void write(const void* data, size_t bytes);  // throws Error(input) where the device is full or fails
  uint64_t written() const;
  void commit();

 private:
  struct Open;
  std::unique_ptr<Open> open_;
};

}  // namespace hone
