// Element types of arrays, and bf16 as a scalar.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace hone {

// The upper half of a float: 8 bits of exponent, 7 of fraction.
struct bf16 {
  uint16_t bits;
};

[[gnu::always_inline]] inline float to_float(bf16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}
[[gnu::always_inline]] inline float to_float(float x) {
  return x;
}

// Rounds to nearest, ties to even; a NaN stays a NaN.
[[gnu::always_inline]] inline bf16 to_bf16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

enum class DType : uint8_t { f32, bf16, i8, u8, i32, u32, i64, u64 };

size_t size_of(DType type);            // bytes an element
std::string_view name_of(DType type);  // "f32", "bf16", "i8", …
DType dtype_named(std::string_view);   // throws Error(input) for an unknown name

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<hone::bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<int8_t> {
  static constexpr DType value = DType::i8;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<uint32_t> {
  static constexpr DType value = DType::u32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<uint64_t> {
  static constexpr DType value = DType::u64;
};

}  // namespace hone
