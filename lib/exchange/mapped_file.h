// Files of others: one mapped for reading, and one written from its beginning to its end.
#pragma once

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
  explicit MappedFile(const std::string& path);  // throws Error(input) for what is missing, empty or no regular file
  std::span<const std::byte> bytes() const { return {storage_->data(), storage_->bytes()}; }
  // Gives memory that reading has taken back to the system; what is read again comes from the file again.
  void forget() const;
  // Copies bytes from `at` on, without a page of the mapping: for what is read once, of which pages would take longer
  // than bytes. By any thread; returns 0, or an errno where the file fails or has become shorter.
  int read(uint64_t at, std::span<std::byte> to) const { return read_at(file_.fd(), {to.data(), to.size(), at}); }

 private:
  Descriptor file_;
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
