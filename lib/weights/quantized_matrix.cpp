#include "weights/quantized_matrix.h"

#include <algorithm>

#include "kernels/packed/nearest.h"
#include "kernels/parallel.h"

namespace hone {

Tensor dequantize(const QuantizedMatrix& matrix) {
  const int64_t cols = matrix.cols, group = matrix.group ? matrix.group : std::max<int64_t>(cols, 1);
  const int64_t groups = group_count(cols, matrix.group);
  Tensor dense = Tensor::empty({matrix.rows, cols});
  const kernels::ElementNumbers numbers(matrix.element);
  const int8_t* integers = matrix.integers.data<int8_t>();
  const float* scales = matrix.scales.data<float>();
  float* out = dense.data<float>();
  kernels::parallel_for(matrix.rows, kernels::row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t g = 0, c = 0; g < groups; ++g) {
        const float scale = scales[r * groups + g];
        for (const int64_t stop = std::min(cols, c + group); c < stop; ++c)
          out[r * cols + c] = scale * numbers[integers[r * cols + c]];
      }
  });
  return dense;
}

}  // namespace hone
