// Integers and scales of a rounded matrix, changed one at a time as long as the layer's outputs get nearer to what they
// were.
#pragma once

#include "compress/curvature.h"
#include "weights/quantized_matrix.h"

namespace hone {

// Coordinate descent on sum over rows of (w - v) C (w - v)^T, where v is what `matrix` stands for (QuantEase, Behdin et
// al., arXiv 2309.01885): every integer in turn becomes the one with the least error while all others stay, then every
// scale the bf16 number next to the one with the least error, until a sweep changes little or `most_sweeps` are done.
// What the mask leaves out stays 0. The error never grows. `weight` is f32 [rows, cols].
void refine(QuantizedMatrix& matrix, const Tensor& weight, const Curvature& curvature, int most_sweeps = 8);

}  // namespace hone
