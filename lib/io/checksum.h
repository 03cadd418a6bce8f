// Checksums of arrays and texts in a model file.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace hone {

// XXH3 with 64 bits and seed 0 of the bytes as they lie in the file, which may come in pieces of any size.
class Checksum {
 public:
  Checksum();
  ~Checksum();
  Checksum(const Checksum&) = delete;
  Checksum& operator=(const Checksum&) = delete;
  void add(std::span<const std::byte> bytes);
  std::string text() const;  // of all so far, as 16 lower-case hexadecimal digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The same of what is in memory. Where a stop is wanted the result is of a part alone: call check_stop() before it is
// used.
std::string checksum_of(const void* data, size_t bytes);

}  // namespace hone
