// How a cache of keys and values stores them: as they are, or as codes with a scale for each row of a head.
//
// A row of head_dim numbers is rotated by a Hadamard matrix in blocks of the largest power of two that divides head_dim
// (QuaRot, arXiv 2404.00456, section 4): single large channels, which keys have, spread over the block, and one scale
// fits it. Scores do not change where queries are rotated alike; of values the sum is rotated back. The rotation is its
// own inverse. Scales are bf16. A row that holds a NaN or an infinity gets the scale NaN.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/find_row.h"

namespace hone::kernels {

// A new code is a row here and a file in isa/attention/codes/, which says what its bytes mean; a row without a file
// does not link.
struct CacheCodeInfo {
  std::string_view name;   // in options and reports
  int64_t numbers, bytes;  // so many numbers, a multiple of 16, take so many bytes; rows are padded to whole ones
  std::string_view what;   // for people
};
inline constexpr CacheCodeInfo cache_codes[] = {
    {"int8", 16, 16, "integers of 8 bits, in half the memory"},
    {"int4", 32, 16, "integers of 4 bits, in a quarter of it"},
};
inline constexpr size_t cache_code_count = std::size(cache_codes);

// 1 + an index into the table; none: numbers of the type of activations.
enum class CacheCode : uint8_t { none = 0 };

// Every code, in the order of the table.
inline constexpr std::array<CacheCode, cache_code_count> all_cache_codes = [] {
  std::array<CacheCode, cache_code_count> all{};
  for (size_t i = 0; i < cache_code_count; ++i) all[i] = static_cast<CacheCode>(i + 1);
  return all;
}();

// Not of none. In an instruction set's files only as a constant (kernels/packed/element.h).
constexpr const CacheCodeInfo& info_of(CacheCode code) {
  return cache_codes[static_cast<size_t>(code) - 1];
}

constexpr std::optional<CacheCode> find_cache_code(std::string_view name) {
  return find_row<CacheCode>(cache_codes, name, 1);
}
consteval CacheCode cache_code_named(std::string_view name) {
  return row_named<CacheCode>(cache_codes, name, 1);
}

// Bytes of a row of codes.
constexpr int64_t code_row_bytes(CacheCode code, int64_t head_dim) {
  const CacheCodeInfo& info = info_of(code);
  return (head_dim + info.numbers - 1) / info.numbers * info.bytes;
}

}  // namespace hone::kernels
