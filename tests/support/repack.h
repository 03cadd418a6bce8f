// Models whose weights are packed, for tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>

#include "nn/parameters.h"
#include "weights/packed_weight.h"

namespace hone::test {

// Every matrix in another form: "bf16", "int8" or "int4", and with " sparse" behind it 40% of its elements.
struct Repack : Visitor {
  explicit Repack(std::string to) : form(std::move(to)) {}
  void weight(const ParameterInfo&, std::shared_ptr<Weight>& weight) override {
    const Tensor dense = weight->to_dense();
    const int64_t rows = dense.dim(0), cols = dense.dim(1);
    Bitmask mask;
    if (form.ends_with("sparse")) {
      mask = Bitmask::zeros(rows, cols);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < cols; ++c)
          if ((r * 7 + c * 5) % 10 < 4) mask.set(r, c);
    }
    if (form.starts_with("bf16")) {
      weight = pack_bf16(dense, mask);
      return;
    }
    QuantizedMatrix q{rows,
                      cols,
                      32,
                      *kernels::find_element(form.starts_with("int4") ? "int4" : "int8"),
                      Tensor::zeros({rows, cols}, DType::i8),
                      Tensor::zeros({rows, group_count(cols, 32)}),
                      mask};
    const float most = form.starts_with("int4") ? 7 : 127;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) {
        float& scale = q.scales.data<float>()[r * group_count(cols, 32) + c / 32];
        if (c % 32 == 0) {
          for (int64_t i = c; i < std::min(c + 32, cols); ++i)
            scale = std::max(scale, std::abs(dense.data<float>()[r * cols + i]) / most);
          scale = to_float(to_bf16(scale * 1.01f));
        }
        if (!mask || mask.at(r, c))
          q.integers.data<int8_t>()[r * cols + c] =
              static_cast<int8_t>(std::lround(dense.data<float>()[r * cols + c] / scale));
      }
    weight = pack_integers(q);
  }
  void parameter(const ParameterInfo&, Parameter&) override {}
  std::string form;
};

}  // namespace hone::test
