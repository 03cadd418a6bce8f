// Checksums of arrays and texts in a model file.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace hone {

inline constexpr size_t checksum_digits = 16;
// Between two looks at signals: a cold disk takes a tenth of a second. What is shorter is read whole.
inline constexpr size_t unstopped_bytes = size_t{16} << 20;

// XXH3 with 64 bits and seed 0 of the bytes as they lie in the file, which may come in pieces of any size.
class Checksum {
 public:
  Checksum();
  Checksum(const Checksum&) = delete;
  Checksum& operator=(const Checksum&) = delete;
  void add(std::span<const std::byte> bytes);
  std::string text() const;  // of all so far, as checksum_digits lower-case hexadecimal digits
  // The same in place of what `to` holds. Allocates nothing where that has room for them, so that loops over threads,
  // which must not throw, may call it.
  void text_into(std::string& to) const;

 private:
  alignas(64) std::byte state_[640];  // within the object, for the same reason
};

// The same of what is in memory. Where a stop is wanted the result is of a part alone: call check_stop() before it is
// used.
std::string checksum_of(const void* data, size_t bytes);
void checksum_into(const void* data, size_t bytes, std::string& to);  // as Checksum::text_into()

}  // namespace hone
