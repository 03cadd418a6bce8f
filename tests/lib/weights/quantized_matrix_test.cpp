#include "weights/quantized_matrix.h"

#include <doctest/doctest.h>

using namespace hone;

TEST_CASE("dequantizing multiplies each integer with the scale of its row or group, the last group shorter") {
  CHECK(group_count(70, 32) == 3);
  CHECK(group_count(64, 32) == 2);
  CHECK(group_count(64, 0) == 1);
  for (int64_t group : {0, 32}) {
    QuantizedMatrix q{2,
                      70,
                      group,
                      kernels::element_named("int8"),
                      Tensor::empty({2, 70}, DType::i8),
                      Tensor::empty({2, group_count(70, group)}),
                      {}};
    for (int64_t i = 0; i < q.integers.size(); ++i) q.integers.data<int8_t>()[i] = static_cast<int8_t>(i % 255 - 127);
    for (int64_t i = 0; i < q.scales.size(); ++i)
      q.scales.data<float>()[i] = (i % 2 ? -0.5f : 0.25f) * static_cast<float>(i + 1);
    const Tensor dense = dequantize(q);
    REQUIRE(dense.shape() == Shape{2, 70});
    for (int64_t i = 0; i < 140; ++i) {
      const int64_t scale = group ? i / 70 * 3 + i % 70 / 32 : i / 70;
      CHECK(dense.data<float>()[i] == q.scales.data<float>()[scale] * static_cast<float>(q.integers.data<int8_t>()[i]));
    }
  }
}
