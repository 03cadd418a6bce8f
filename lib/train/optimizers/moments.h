// How an optimizer keeps its moving means: in f32, in bf16 rounded by chance, or in 8 bits by blocks.
//
// A rule sees f32 alone: it takes a stretch of elements out, changes it, and puts it back. What is drawn by chance
// follows from the seed, the parameter, the step and the element, so that a run that is resumed draws the same.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"
#include "train/optimizers/update_rule.h"

namespace hone {

class Moments {
 public:
  // Elements that share a largest value, and what work is cut into.
  static constexpr int64_t block = 256;

  // Of a parameter by that name. `squares`: never negative; 8 bits then hold roots, whose range is half as wide.
  Moments(MomentForm form, std::string name, bool squares, uint64_t seed);

  // What is kept: "<name>", and with 8 bits "<name>_scales", the largest of each block.
  std::vector<StateArray> arrays(const Shape& shape) const;

  // Elements [begin, end), `begin` a multiple of `block`. step: of the run, from 1.
  void load(const std::map<std::string, Tensor>& state, int64_t begin, int64_t end, float* out) const;
  void store(const std::map<std::string, Tensor>& state, int64_t begin, int64_t end, const float* from,
             int64_t step) const;

 private:
  MomentForm form_;
  std::string name_, scales_;
  bool squares_;
  uint64_t seed_;
};

}  // namespace hone
