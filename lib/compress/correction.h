// What a linear layer lacks behind a change of what enters it, made up for by least squares.
#pragma once

#include <string>
#include <vector>

#include "compress/statistics.h"

namespace hone {

// Sees rows x that enter a layer beside rows r, what its outputs lack, and finds the matrix D (and, where centred, the
// constant d) with the least mean |r - D x - d|^2, with a hundredth of the inputs' mean square times |D|^2 beside it
// (compress/units.h): where x tells nothing of r, the layer stays as it was. Memory: inputs * (inputs + outputs)
// numbers.
class Correction {
 public:
  Correction(int64_t inputs, int64_t outputs, bool centred);
  void add(kernels::ConstView x, const Tensor& lacking);  // [rows, inputs], f32 or bf16; f32 [rows, outputs]

  struct Found {
    Tensor matrix;                 // f32 [outputs, inputs]
    Tensor constant;               // f32 [outputs]; 0 unless centred
    double before = 0, after = 0;  // mean |r|^2 over the rows, and of what is left of it
  };
  // Throws Error(input), naming `where`, for what is not finite.
  Found find(const std::string& where) const;

 private:
  bool centred_;
  InputStatistics inputs_;
  Tensor products_;           // [outputs, inputs]: sum of r x^T
  std::vector<double> sums_;  // of r
  double squares_ = 0;        // of r
};

}  // namespace hone
