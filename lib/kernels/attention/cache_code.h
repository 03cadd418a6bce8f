// How a cache of keys and values stores them: as they are, or as codes with a scale for each row of a head.
//
// A row of head_dim numbers is rotated by a Hadamard matrix in blocks of the largest power of two that divides head_dim
// (QuaRot, arXiv 2404.00456, section 4): single large channels, which keys have, spread over the block, and one scale
// fits it. Scores do not change where queries are rotated alike; of values the sum is rotated back. The rotation is its
// own inverse.
//   int8   a byte a number, value q * scale, q from -127 to 127; rows padded to 16 bytes
//   int4   a nibble a number, value (code - 7.5) * scale; of each 32 numbers byte b has number b in its low and number
//          b + 16 in its high half; rows padded to 16 bytes
// Scales are bf16. A row that holds a NaN or an infinity gets the scale NaN.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/dtype.h"

namespace hone::kernels {

enum class CacheCode : uint8_t { none, int8, int4 };

struct CacheCodeInfo {
  std::string_view name;  // in options and reports; of `none` what says that the cache has the type of activations
  int bits;               // of a code
  DType type;             // of arrays of codes, which are counted in bytes
};

// Index = value of the enumeration.
inline constexpr std::array<CacheCodeInfo, 3> cache_codes = {
    {{"same", 0, DType::f32}, {"int8", 8, DType::i8}, {"int4", 4, DType::u8}}};

constexpr const CacheCodeInfo& info_of(CacheCode code) {
  return cache_codes[static_cast<size_t>(code)];
}

constexpr std::optional<CacheCode> find_cache_code(std::string_view name) {
  for (size_t i = 0; i < cache_codes.size(); ++i)
    if (cache_codes[i].name == name) return static_cast<CacheCode>(i);
  return std::nullopt;
}

// Bytes of a row of codes.
constexpr int64_t code_row_bytes(CacheCode code, int64_t head_dim) {
  return code == CacheCode::int4 ? (head_dim + 31) / 32 * 16 : (head_dim + 15) / 16 * 16;
}

}  // namespace hone::kernels
