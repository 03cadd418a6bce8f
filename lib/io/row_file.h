// Files of rows: a description in JSON and arrays of as many rows, filled in any order and then mapped to be read. For
// what is computed once for every token of a text.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "io/descriptor.h"
#include "tensor/tensor.h"

namespace hone {

// The bytes: "hone row file 1\n", the length of a JSON text as u64, that text ({"about", "rows", "arrays": a list of
// {"row_bytes", "offset", "checksum"}}), and the arrays, each at a multiple of 64, little-endian.
class RowFileWriter {
 public:
  // Takes room for all of it. Throws as AtomicFile does, and Error(input) where the disk has less.
  RowFileWriter(const std::string& path, bool force, nlohmann::json about, int64_t rows,
                const std::vector<int64_t>& row_bytes);
  // Rows [first, first + count) of an array.
  void write(size_t array, int64_t first, int64_t count, const void* data);
  void commit();  // checksums, and the file appears

 private:
  std::string header() const;

  AtomicFile file_;
  Descriptor descriptor_;
  nlohmann::json about_;
  int64_t rows_;
  struct Array {
    int64_t row_bytes, offset;
    std::string checksum = std::string(16, '0');
  };
  std::vector<Array> arrays_;
  int64_t bytes_ = 0;
};

struct RowFile {
  nlohmann::json about;
  int64_t rows = 0;
  std::vector<Tensor> arrays;  // u8 [rows, row_bytes], mapped
};

// Throws Error(input) for a file that cannot be read, is no such file, or whose arrays do not lie in it or have other
// checksums.
RowFile read_row_file(const std::string& path);

}  // namespace hone
