// Finished weights, kept in a file instead of in memory by tools that change a model weight by weight.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "weights/weight.h"

namespace hone {

// The file has no name, lies beside `target`, whose device must have room for the result anyway, and ends with its last
// weight.
class WeightSpill {
 public:
  explicit WeightSpill(const std::string& target);
  ~WeightSpill();
  WeightSpill(const WeightSpill&) = delete;
  WeightSpill& operator=(const WeightSpill&) = delete;

  // The same weight, its arrays mapped from the file and none of their pages in memory yet; its numbers of nonzeros and
  // of pruned elements are counted now. Where there is no such file, or no room in it, `weight` itself. Throws Stopped.
  std::shared_ptr<Weight> put(std::shared_ptr<Weight> weight);

 private:
  int fd_ = -1;
  uint64_t bytes_ = 0;
};

}  // namespace hone
