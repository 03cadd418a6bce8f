#include "tensor/bitmask.h"

#include <doctest/doctest.h>

#include <utility>

#include "base/error.h"
#include "base/random.h"

using namespace hone;

TEST_CASE("bits are lowest first, rows start a byte") {
  const Bitmask mask = Bitmask::zeros(2, 10);
  mask.set(0, 0);
  mask.set(0, 3);
  mask.set(0, 9);
  mask.set(1, 1);
  REQUIRE(mask.bits().shape() == Shape{2, 2});
  const uint8_t expected[] = {0b00001001, 0b10, 0b10, 0};
  for (int i = 0; i < 4; ++i) CHECK(mask.data()[i] == expected[i]);
  CHECK(mask.at(0, 9));
  CHECK_FALSE(mask.at(1, 9));
  CHECK(mask.count() == 4);
  CHECK(mask.left_out() == 16);
  CHECK(mask.sparsity() == doctest::Approx(0.8));
}

TEST_CASE("counts leave the padding out, for rows of every length") {
  Random random(1, "bits");
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{5, 37}, {3, 64}, {2, 1}, {4, 203}, {1, 8}, {0, 9}}) {
    CAPTURE(cols);
    const Bitmask ones = Bitmask::ones(rows, cols), mask = Bitmask::zeros(rows, cols);
    CHECK(ones.count() == rows * cols);
    CHECK(ones.padding_is_zero());
    int64_t set = 0;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c)
        if (random.below(2)) {
          mask.set(r, c);
          ++set;
        }
    CHECK(mask.count() == set);
    CHECK(count_differences(mask, ones) == rows * cols - set);
    CHECK(count_differences(mask, {}) == rows * cols - set);
    CHECK(count_differences({}, mask) == rows * cols - set);
    CHECK(count_differences(mask, mask.clone()) == 0);
    if (rows == 0 || cols % 8 == 0) continue;
    mask.row(rows)[-1] |= 0x80;
    CHECK_FALSE(mask.padding_is_zero());
    CHECK(mask.count() == set);
  }
  CHECK(count_differences({}, {}) == 0);
  CHECK_FALSE(Bitmask());
  CHECK_FALSE(Bitmask().clone());
  CHECK(Bitmask::zeros(0, 0).sparsity() == 0);
}

TEST_CASE("bytes of another type or number are no mask of a matrix") {
  CHECK_NOTHROW(Bitmask(Tensor::zeros({6}, DType::u8), 3, 12));
  CHECK_THROWS_AS(Bitmask(Tensor::zeros({3, 2}, DType::i8), 3, 12), Error);
  CHECK_THROWS_AS(Bitmask(Tensor::zeros({3, 2}, DType::u8), 3, 17), Error);
  CHECK_THROWS_AS(Bitmask(Tensor::zeros({3, 2}, DType::u8), 4, 12), Error);
}
