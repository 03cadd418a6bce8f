#include "base/dtype.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

#include "base/error.h"
#include "base/random.h"

using namespace hone;

TEST_CASE("element types keep their size and name") {
  for (const DType type :
       {DType::f32, DType::bf16, DType::i8, DType::u8, DType::i32, DType::u32, DType::i64, DType::u64})
    CHECK(dtype_named(name_of(type)) == type);
  CHECK(size_of(DType::f32) == 4);
  CHECK(size_of(DType::bf16) == sizeof(bf16));
  CHECK(size_of(DType::u8) == 1);
  CHECK(size_of(DType::i64) == 8);
  try {
    dtype_named("f64");
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    CHECK(std::string(error.what()).find("'f64'") != std::string::npos);
  }
}

TEST_CASE("bf16: every finite value survives the way to float and back") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const bf16 x{static_cast<uint16_t>(bits)};
    const float value = to_float(x);
    if (std::isnan(value))
      CHECK(std::isnan(to_float(to_bf16(value))));
    else
      REQUIRE(to_bf16(value).bits == x.bits);
  }
}

TEST_CASE("bf16 rounds to the nearest, ties to even, and overflows to infinity") {
  CHECK(to_float(to_bf16(1.0f + 0x1p-8f)) == 1.0f);                       // a tie: down to the even fraction
  CHECK(to_float(to_bf16(1.0f + 3 * 0x1p-8f)) == 1.0f + 2 * 0x1p-7f);     // a tie: up to the even fraction
  CHECK(to_float(to_bf16(1.0f + 0x1p-8f + 0x1p-20f)) == 1.0f + 0x1p-7f);  // just above the tie
  CHECK(to_float(to_bf16(-1.0f - 0x1p-8f)) == -1.0f);
  CHECK(std::isinf(to_float(to_bf16(std::numeric_limits<float>::max()))));
  CHECK(to_float(to_bf16(std::numeric_limits<float>::infinity())) == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(to_float(to_bf16(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(std::isnan(to_float(to_bf16(std::bit_cast<float>(0x7f800001u)))));  // a payload in the lower half only
  CHECK(std::signbit(to_float(to_bf16(-0.0f))));
}

TEST_CASE("bf16 rounding is never further off than either neighbour") {
  Random random(1, "bf16");
  for (int i = 0; i < 20000; ++i) {
    const float x = static_cast<float>(random.normal() * std::exp(random.normal() * 10));
    const bf16 rounded = to_bf16(x);
    const double error = std::abs(static_cast<double>(to_float(rounded)) - x);
    for (const int step : {-1, 1}) {
      const bf16 neighbour{static_cast<uint16_t>(rounded.bits + step)};
      REQUIRE(error <= std::abs(static_cast<double>(to_float(neighbour)) - x));
    }
  }
}
