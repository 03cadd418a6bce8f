#include "compress/masks.h"

#include <doctest/doctest.h>

#include <cmath>

#include "base/error.h"
#include "kernels/rows/elementwise.h"
#include "support/masks.h"

using namespace hone;

TEST_CASE("packing inverts expanding") {
  Tensor kept = Tensor::zeros({2, 10}, DType::u8);
  for (int64_t i : {0, 3, 9, 11}) kept.data<uint8_t>()[i] = 1;
  const Bitmask mask = pack_mask(kept);
  CHECK(mask.count() == 4);
  CHECK(mask.at(1, 1));
  const Tensor back = expand_mask(mask);
  REQUIRE(back.shape() == kept.shape());
  for (int64_t i = 0; i < 20; ++i) CHECK(back.data<uint8_t>()[i] == kept.data<uint8_t>()[i]);
}

TEST_CASE("applying a mask writes plain zeros over the pruned weights alone") {
  const Tensor weight = Tensor::of({2, 3}, {1, -2, 3, -4, 5, -6});
  const Bitmask mask = test::mask_of_nonzeros(Tensor::of({2, 3}, {1, 0, 1, 0, 0, 2}));
  kernels::apply_mask(weight.view(), mask.data());
  const float expected[] = {1, 0, 3, 0, 0, -6};
  for (int i = 0; i < 6; ++i) {
    CHECK(weight.data<float>()[i] == expected[i]);
    CHECK(std::signbit(weight.data<float>()[i]) == std::signbit(expected[i]));
  }
}

TEST_CASE("a mask takes out what is not a number too, in whole bytes of bits and behind them") {
  const int64_t cols = 21;
  Tensor weight = Tensor::empty({3, cols}), kept = Tensor::zeros({3, cols}, DType::u8);
  for (int64_t i = 0; i < weight.size(); ++i) {
    const bool stays = i * 7 % 5 < 2;
    weight.data<float>()[i] = stays ? -1.5f - static_cast<float>(i) : i % 2 ? NAN : -INFINITY;
    kept.data<uint8_t>()[i] = stays;
  }
  kernels::apply_mask(weight.view(), pack_mask(kept).data());
  for (int64_t i = 0; i < weight.size(); ++i) {
    const float x = weight.data<float>()[i];
    CHECK(x == (kept.data<uint8_t>()[i] ? -1.5f - static_cast<float>(i) : 0));
    CHECK(std::signbit(x) == (kept.data<uint8_t>()[i] != 0));
  }
}

TEST_CASE("a mask of another shape or with bits in its padding is refused") {
  const auto status = [](const Bitmask& mask, int64_t rows, int64_t cols) {
    try {
      check_mask(mask, rows, cols, "blocks.0.attention.qkv.weight");
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find("blocks.0.attention.qkv.weight") != std::string::npos);
      return error.exit_status();
    }
    return 0;
  };
  const Bitmask mask = Bitmask::ones(3, 12);
  CHECK(status(mask, 3, 12) == 0);
  CHECK(status(mask, 3, 20) == 3);
  CHECK(status(mask, 4, 12) == 3);
  mask.data()[3] |= 0x40;
  CHECK(status(mask, 3, 12) == 3);
}
