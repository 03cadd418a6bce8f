#include "exchange/numbers.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/parallel.h"
#include "tensor/pages.h"

namespace hone {
namespace {

template <class Stored, class F>
void each(std::span<float> to, const std::byte* from, F&& value) {
  kernels::parallel_for(static_cast<int64_t>(to.size()), 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Stored stored;
      std::memcpy(&stored, from + static_cast<size_t>(i) * sizeof stored, sizeof stored);
      to[static_cast<size_t>(i)] = value(stored);
    }
  });
}

}  // namespace

std::string_view name_of(NumberType type) {
  constexpr std::array<std::string_view, 3> names = {"F32", "F16", "BF16"};
  return names[static_cast<size_t>(type)];
}

std::string_view option_of(NumberType type) {
  constexpr std::array<std::string_view, 3> names = {"f32", "f16", "bf16"};
  return names[static_cast<size_t>(type)];
}

uint16_t to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
  if (rest > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | (rest >> 13 & 0x3ffu));  // NaN
  if (rest >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);                         // 65536 and more
  if (rest < 0x38800000u) {  // below 2^-14: a multiple of 2^-24, which the addition rounds to
    const float sum = std::bit_cast<float>(rest) + 0x1p-1f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(sum) - 0x3f000000u));
  }
  const uint32_t rounded = rest + 0xfffu + (rest >> 13 & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

void decode_numbers(const std::byte* from, NumberType type, std::span<float> to) {
  switch (type) {
    case NumberType::f32:
      each<float>(to, from, [](float x) { return x; });
      break;
    case NumberType::f16:
      each<uint16_t>(to, from, [](uint16_t x) { return from_half(x); });
      break;
    case NumberType::bf16:
      each<uint16_t>(to, from, [](uint16_t x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); });
      break;
  }
}

void encode_numbers(std::span<const float> from, NumberType type, std::byte* to) {
  if (type == NumberType::f32) {
    std::memcpy(to, from.data(), from.size_bytes());
    return;
  }
  const bool half = type == NumberType::f16;
  kernels::parallel_for(static_cast<int64_t>(from.size()), 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float x = from[static_cast<size_t>(i)];
      const uint16_t stored = half ? to_half(x) : to_bf16(x).bits;
      std::memcpy(to + 2 * i, &stored, sizeof stored);
    }
  });
}

void in_pieces(const Tensor& tensor, const std::function<void(std::span<const float> piece)>& take) {
  const Tensor flat = tensor.reshape({tensor.size()});
  for (int64_t begin = 0; begin < flat.size(); begin += piece_numbers) {
    const Tensor piece = flat.rows(begin, std::min(piece_numbers, flat.size() - begin));
    take(piece.span<float>());
    let_go(piece);
  }
}

}  // namespace hone
