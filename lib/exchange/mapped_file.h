// A whole file, mapped for reading.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "tensor/tensor.h"

namespace hone {

class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  // throws Error(input) for what is missing, empty or no regular file
  std::span<const std::byte> bytes() const { return {storage_->data(), storage_->bytes()}; }
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  // Gives memory that reading has taken back to the system; what is read again comes from the file again.
  void forget() const;

 private:
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
