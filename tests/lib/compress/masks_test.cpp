#include "compress/masks.h"

#include <doctest/doctest.h>

#include <cmath>

#include "base/error.h"

using namespace hone;

TEST_CASE("bits are least significant first, rows are padded to a byte, and packing inverts expanding") {
  Tensor kept = Tensor::zeros({2, 10}, DType::u8);
  for (int64_t i : {0, 3, 9, 11}) kept.data<uint8_t>()[i] = 1;
  const Tensor mask = pack_mask(kept);
  REQUIRE(mask.shape() == Shape{2, 2});
  const uint8_t expected[] = {0b00001001, 0b10, 0b10, 0};
  for (int i = 0; i < 4; ++i) CHECK(mask.data<uint8_t>()[i] == expected[i]);
  CHECK(count_kept(mask) == 4);
  CHECK(mask_sparsity(mask, 10) == doctest::Approx(0.8));
  const Tensor back = expand_mask(mask, 10);
  for (int64_t i = 0; i < 20; ++i) CHECK(back.data<uint8_t>()[i] == kept.data<uint8_t>()[i]);
}

TEST_CASE("a full mask keeps all but its padding, and counts beyond a word") {
  const Tensor mask = full_mask(5, 37);
  CHECK(count_kept(mask) == 5 * 37);
  CHECK_NOTHROW(check_mask(mask, 5, 37, "w"));
}

TEST_CASE("applying a mask writes plain zeros over the pruned weights alone") {
  const Tensor weight = Tensor::of({2, 3}, {1, -2, 3, -4, 5, -6});
  const Tensor mask = mask_of_nonzeros(Tensor::of({2, 3}, {1, 0, 1, 0, 0, 2}));
  apply_mask(weight, mask);
  const float expected[] = {1, 0, 3, 0, 0, -6};
  for (int i = 0; i < 6; ++i) {
    CHECK(weight.data<float>()[i] == expected[i]);
    CHECK(std::signbit(weight.data<float>()[i]) == std::signbit(expected[i]));
  }
}

TEST_CASE("combined masks keep what both keep") {
  const Tensor a = mask_of_nonzeros(Tensor::of({1, 4}, {1, 1, 0, 0}));
  const Tensor b = mask_of_nonzeros(Tensor::of({1, 4}, {1, 0, 1, 0}));
  CHECK(combine_masks(a, b).data<uint8_t>()[0] == 1);
}

TEST_CASE("a mask of another shape, type or with bits in its padding is refused") {
  const auto status = [](const Tensor& mask, int64_t rows, int64_t cols) {
    try {
      check_mask(mask, rows, cols, "blocks.0.attention.qkv.weight");
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find("blocks.0.attention.qkv.weight") != std::string::npos);
      return error.exit_status();
    }
    return 0;
  };
  Tensor mask = full_mask(3, 12);
  CHECK(status(mask, 3, 12) == 0);
  CHECK(status(mask, 3, 20) == 3);
  CHECK(status(mask, 4, 12) == 3);
  CHECK(status(Tensor::zeros({3, 2}, DType::i8), 3, 12) == 3);
  mask.data<uint8_t>()[3] |= 0x40;
  CHECK(status(mask, 3, 12) == 3);
}
