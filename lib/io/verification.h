// What Encoded::verify of a deferred parameter is, for who wants more of it than its checksums.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "tensor/tensor.h"

namespace hone {

// Arrays in a mapped file, and the checksums that they should have. Encoded::verify.target<Verification>() is one where
// read_model_file() set it.
class Verification {
 public:
  struct Check {
    Tensor array;
    std::string checksum;
    Error failure;
  };

  explicit Verification(std::vector<Check> checks);
  // Throws the failure of the first that differs, and Stopped where a long one met a stop.
  void operator()() const { nonfinite(); }
  // The same, and how many numbers of all are NaN or infinite: counted where a piece is in the cache, as memory takes
  // longer than both.
  int64_t nonfinite() const;

 private:
  std::shared_ptr<const std::vector<Check>> checks_;  // shared, since functions are copied
};

}  // namespace hone
