// Scaling the inputs of linear layers so that rounding spares those that matter (AWQ: Lin et al., arXiv 2306.00978).
#pragma once

#include <map>
#include <span>
#include <string>

#include "compress/calibration.h"
#include "kernels/packed/element.h"
#include "model/transformer.h"

namespace hone {

// How one weight will be rounded.
struct LayerType {
  std::string name;  // of the weight
  kernels::PackedElement element{};
  int64_t group = 0;
};

// Multiplies input j of a layer's weight by s_j and divides the gain and bias of the norm before it by s_j, which leaves
// what the model computes as it was: s_j = E[x_j^2]^(a/2) over the tokens of `text`, their geometric mean 1. Of
// a = 0, 1/8, …, 1 each layer gets the one behind which rounding to its element leaves the least
// sum_j E[x_j^2] (w_j - w'_j)^2 (section 3.2 there, which takes means of |x_j|), with scales that are searched or just
// reach the largest weight (QuantizeOptions::search).
//
// Only where one layer reads the norm: query/key/value, and up of a feed-forward without experts. `layers` that are
// others, have elements without scales or are packed already stay as they are. Returns a for each that was tried; 0:
// left as it was. Throws as calibrate() does, and Error(input), naming the layer, for inputs that are not finite.
std::map<std::string, double> balance_inputs(Transformer& model, std::span<const LayerType> layers, bool search,
                                             const CalibrationText& text, DType type);

}  // namespace hone
