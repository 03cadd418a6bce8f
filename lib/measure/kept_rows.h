// Rows of numbers that one process writes and others read: too many for memory, and of no use to anybody else.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace hone {

// Lies in a file of $TMPDIR (else /tmp) without a name: it is gone with the last process that has it open, whatever
// ends that. Only the rows that are written or read at a time take memory of the process.
class KeptRows {
 public:
  KeptRows(int64_t cols, DType type);
  ~KeptRows();
  KeptRows(const KeptRows&) = delete;
  KeptRows& operator=(const KeptRows&) = delete;

  // Before anything is written: false where the folder takes no file, or has no room for so many.
  bool reserve(int64_t rows);

  // `rows`: [n, cols] of the type, which become those from `first` on. Throws Error(input) for a full disk.
  void write(int64_t first, const Tensor& rows);
  Tensor read(int64_t first, int64_t count) const;  // [count, cols], written before

 private:
  int64_t row_bytes() const { return cols_ * static_cast<int64_t>(size_of(type_)); }

  int64_t cols_;
  DType type_;
  int fd_ = -1;
};

}  // namespace hone
