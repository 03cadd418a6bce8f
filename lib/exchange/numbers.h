// Numbers as other formats store them: F32, F16, BF16 to f32 and back.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "tensor/tensor.h"

namespace hone {

enum class NumberType { f32, f16, bf16 };

inline constexpr NumberType number_types[] = {NumberType::f32, NumberType::f16, NumberType::bf16};
std::string_view name_of(NumberType type);    // "F32", "F16", "BF16": in safetensors
std::string_view option_of(NumberType type);  // "f32", "f16", "bf16": as a person chooses it
constexpr size_t size_of(NumberType type) {
  return type == NumberType::f32 ? 4 : 2;
}

// IEEE 754 binary16. Rounds to nearest, ties to even; what is beyond 65504 becomes infinite; a NaN stays one.
inline float from_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16, rest = half & 0x7fffu;
  // No f32 on the way is subnormal: processors may be told to take those for 0.
  const uint32_t small = std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(rest)) * 0x1p-24f);
  const uint32_t usual = (rest << 13) + (112u << 23) + (rest >= 0x7c00u ? 112u << 23 : 0u);
  const uint32_t chosen = rest < 0x400u ? ~0u : 0u;  // not a choice of two values: loops of those stay scalar
  return std::bit_cast<float>(sign | (small & chosen) | (usual & ~chosen));
}
uint16_t to_half(float value);

// `count` numbers of `from`, little-endian at any alignment, as f32; on all threads where they are many.
void decode_numbers(const std::byte* from, NumberType type, std::span<float> to);
// The same back: exact where the numbers came from that type.
void encode_numbers(std::span<const float> from, NumberType type, std::byte* to);

// Hands a tensor of f32 on in pieces of so many numbers at most, in order, so that what is made of it need not be whole
// in memory. Pieces that lie in a mapped file leave memory behind it.
constexpr int64_t piece_numbers = int64_t{1} << 20;  // whole blocks of every type
void in_pieces(const Tensor& tensor, const std::function<void(std::span<const float> piece)>& take);

}  // namespace hone
