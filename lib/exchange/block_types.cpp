#include "exchange/block_types.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "exchange/numbers.h"
#include "kernels/parallel.h"

namespace hone {
namespace {

uint8_t byte_at(const std::byte* from, int64_t i) {
  return static_cast<uint8_t>(from[i]);
}

float half_at(const std::byte* from) {
  uint16_t bits;
  std::memcpy(&bits, from, sizeof bits);
  return from_half(bits);
}

// Returns the scale as it was stored.
void put_half(float value, std::byte* to) {
  const uint16_t bits = to_half(value);
  std::memcpy(to, &bits, sizeof bits);
}

template <NumberType type>
void decode_number(const std::byte* from, float* to) {
  decode_numbers(from, type, {to, 1});
}
template <NumberType type>
void encode_number(const float* from, std::byte* to) {
  encode_numbers({from, 1}, type, to);
}

// 32 codes of 8 bits: value = d * code.
void decode_q8_0(const std::byte* from, float* to) {
  const float d = half_at(from);
  for (int64_t i = 0; i < 32; ++i) to[i] = d * static_cast<float>(static_cast<int8_t>(byte_at(from, 2 + i)));
}

// The codes are those of the exact scale, as ggml's reference has them.
void encode_q8_0(const float* from, std::byte* to) {
  float largest = 0;
  for (int64_t i = 0; i < 32; ++i) largest = std::max(largest, std::abs(from[i]));
  const float d = largest / 127, inverse = d > 0 ? 1 / d : 0;
  put_half(d, to);
  for (int64_t i = 0; i < 32; ++i)
    to[2 + i] = static_cast<std::byte>(static_cast<int8_t>(std::round(from[i] * inverse)));
}

// 32 codes of 4 bits, the first half in the low ones: value = d * (code - 8).
void decode_q4_0(const std::byte* from, float* to) {
  const float d = half_at(from);
  for (int64_t i = 0; i < 16; ++i) {
    to[i] = d * static_cast<float>((byte_at(from, 2 + i) & 15) - 8);
    to[i + 16] = d * static_cast<float>((byte_at(from, 2 + i) >> 4) - 8);
  }
}

// The number of largest magnitude becomes -8 times the scale.
void encode_q4_0(const float* from, std::byte* to) {
  float extreme = 0;
  for (int64_t i = 0; i < 32; ++i)
    if (std::abs(from[i]) > std::abs(extreme)) extreme = from[i];
  const float d = extreme / -8, inverse = d != 0 ? 1 / d : 0;
  put_half(d, to);
  const auto code = [&](int64_t i) {
    return static_cast<unsigned>(std::clamp(static_cast<int>(from[i] * inverse + 8.5f), 0, 15));
  };
  for (int64_t i = 0; i < 16; ++i) to[2 + i] = static_cast<std::byte>(code(i) | code(i + 16) << 4);
}

// As q4_0, with a smallest value: d * code + m.
void decode_q4_1(const std::byte* from, float* to) {
  const float d = half_at(from), m = half_at(from + 2);
  for (int64_t i = 0; i < 16; ++i) {
    to[i] = d * static_cast<float>(byte_at(from, 4 + i) & 15) + m;
    to[i + 16] = d * static_cast<float>(byte_at(from, 4 + i) >> 4) + m;
  }
}

// Code i of 32, its fifth bit apart from the four: bit i of four bytes.
int code_of_5_bits(const std::byte* high, const std::byte* low, int64_t i) {
  const uint8_t four = byte_at(low, i % 16);
  return (i < 16 ? four & 15 : four >> 4) | (byte_at(high, i / 8) >> (i % 8) & 1) << 4;
}

// As q4_0 with a fifth bit: d * (code - 16).
void decode_q5_0(const std::byte* from, float* to) {
  const float d = half_at(from);
  for (int64_t i = 0; i < 32; ++i) to[i] = d * static_cast<float>(code_of_5_bits(from + 2, from + 6, i) - 16);
}

// As q4_1 with a fifth bit: d * code + m.
void decode_q5_1(const std::byte* from, float* to) {
  const float d = half_at(from), m = half_at(from + 2);
  for (int64_t i = 0; i < 32; ++i) to[i] = d * static_cast<float>(code_of_5_bits(from + 4, from + 8, i)) + m;
}

// Of 256 codes of 2 bits: those of a half lie in 32 bytes, each quarter of it in two bits of all of them.
int code_of_2_bits(const std::byte* codes, int64_t i) {
  return byte_at(codes, i / 128 * 32 + i % 32) >> (i % 128 / 32 * 2) & 3;
}

// 256 codes of 2 bits in 16 groups, whose scale and smallest value are four bits each: d * scale * code - m * least.
void decode_q2_k(const std::byte* from, float* to) {
  const float d = half_at(from + 80), m = half_at(from + 82);
  for (int64_t i = 0; i < 256; ++i) {
    const uint8_t group = byte_at(from, i / 16);
    to[i] = d * static_cast<float>(group & 15) * static_cast<float>(code_of_2_bits(from + 16, i)) -
            m * static_cast<float>(group >> 4);
  }
}

// 256 codes of 3 bits, 2 and 1 apart, in 16 groups with scales of 6 bits, 4 and 2 apart:
// d * (scale - 32) * (code - 4). Bit k of 32 bytes is the high one of codes 32 k to 32 k + 31.
void decode_q3_k(const std::byte* from, float* to) {
  const std::byte *high = from, *low = from + 32, *scales = from + 96;
  const float d = half_at(from + 108);
  for (int64_t i = 0; i < 256; ++i) {
    const int64_t g = i / 16;
    const int four = g < 8 ? byte_at(scales, g) & 15 : byte_at(scales, g - 8) >> 4;
    const int scale = four | (byte_at(scales, 8 + g % 4) >> (g / 4 * 2) & 3) << 4;
    const int code = code_of_2_bits(low, i) | (byte_at(high, i % 32) >> (i / 32) & 1) << 2;
    to[i] = d * static_cast<float>(scale - 32) * static_cast<float>(code - 4);
  }
}

// Scale and smallest value of group j of 8, six bits each: four of both whole, four in parts.
void scale_of_group(int64_t j, const std::byte* packed, int& scale, int& least) {
  if (j < 4) {
    scale = byte_at(packed, j) & 63;
    least = byte_at(packed, j + 4) & 63;
  } else {
    scale = (byte_at(packed, j + 4) & 15) | (byte_at(packed, j - 4) >> 6) << 4;
    least = byte_at(packed, j + 4) >> 4 | (byte_at(packed, j) >> 6) << 4;
  }
}

// 256 codes of 4 bits in 8 groups: value = d * scale * code - m * least. Pairs of groups share 32 bytes.
void decode_q4_k(const std::byte* from, float* to) {
  const float d = half_at(from), m = half_at(from + 2);
  for (int64_t j = 0; j < 8; ++j) {
    int scale, least;
    scale_of_group(j, from + 4, scale, least);
    const std::byte* codes = from + 16 + 32 * (j / 2);
    for (int64_t i = 0; i < 32; ++i) {
      const int code = j % 2 ? byte_at(codes, i) >> 4 : byte_at(codes, i) & 15;
      to[32 * j + i] = d * static_cast<float>(scale) * static_cast<float>(code) - m * static_cast<float>(least);
    }
  }
}

// The same with a fifth bit, all of them apart.
void decode_q5_k(const std::byte* from, float* to) {
  const float d = half_at(from), m = half_at(from + 2);
  const std::byte* high = from + 16;
  for (int64_t j = 0; j < 8; ++j) {
    int scale, least;
    scale_of_group(j, from + 4, scale, least);
    const std::byte* codes = from + 48 + 32 * (j / 2);
    for (int64_t i = 0; i < 32; ++i) {
      const int low = j % 2 ? byte_at(codes, i) >> 4 : byte_at(codes, i) & 15;
      const int code = low | (byte_at(high, i) >> j & 1) << 4;
      to[32 * j + i] = d * static_cast<float>(scale) * static_cast<float>(code) - m * static_cast<float>(least);
    }
  }
}

// 256 codes of 6 bits, 4 and 2 apart, in 16 groups with scales of 8 bits: value = d * scale * (code - 32).
void decode_q6_k(const std::byte* from, float* to) {
  const float d = half_at(from + 208);
  for (int64_t half = 0; half < 2; ++half) {
    const std::byte *low = from + 64 * half, *high = from + 128 + 32 * half, *scales = from + 192 + 8 * half;
    for (int64_t quarter = 0; quarter < 4; ++quarter)
      for (int64_t i = 0; i < 32; ++i) {
        const uint8_t four = byte_at(low, i + 32 * (quarter % 2));
        const int code = (quarter < 2 ? four & 15 : four >> 4) | (byte_at(high, i) >> (2 * quarter) & 3) << 4;
        const auto scale = static_cast<int8_t>(byte_at(scales, i / 16 + 2 * quarter));
        to[128 * half + 32 * quarter + i] = d * static_cast<float>(scale) * static_cast<float>(code - 32);
      }
  }
}

// Every type there is: a new one is a line here.
constexpr BlockType types[] = {
    {"f32", 0, 1, 4, 0, decode_number<NumberType::f32>, encode_number<NumberType::f32>},
    {"f16", 1, 1, 2, 1, decode_number<NumberType::f16>, encode_number<NumberType::f16>},
    {"q4_0", 2, 32, 18, 2, decode_q4_0, encode_q4_0},
    {"q4_1", 3, 32, 20, 3, decode_q4_1, nullptr},
    {"q5_0", 6, 32, 22, 8, decode_q5_0, nullptr},
    {"q5_1", 7, 32, 24, 9, decode_q5_1, nullptr},
    {"q8_0", 8, 32, 34, 7, decode_q8_0, encode_q8_0},
    {"q2_k", 10, 256, 84, 10, decode_q2_k, nullptr},
    {"q3_k", 11, 256, 110, 12, decode_q3_k, nullptr},
    {"q4_k", 12, 256, 144, 15, decode_q4_k, nullptr},
    {"q5_k", 13, 256, 176, 17, decode_q5_k, nullptr},
    {"q6_k", 14, 256, 210, 18, decode_q6_k, nullptr},
    {"bf16", 30, 1, 2, 32, decode_number<NumberType::bf16>, encode_number<NumberType::bf16>}};

template <class F>
void each_block(const BlockType& type, size_t numbers, F&& f) {
  const int64_t blocks = static_cast<int64_t>(numbers) / type.block;
  kernels::parallel_for(blocks, 1 + 65536 / type.block, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) f(b);
  });
}

const NumberType* number_type(const BlockType& type) {
  static constexpr NumberType all[] = {NumberType::f32, NumberType::f16, NumberType::bf16};
  return type.number == 0 ? &all[0] : type.number == 1 ? &all[1] : type.number == 30 ? &all[2] : nullptr;
}

}  // namespace

std::span<const BlockType> block_types() {
  return types;
}

const BlockType* block_type_of(uint32_t number) {
  for (const BlockType& type : types)
    if (type.number == number) return &type;
  return nullptr;
}

const BlockType& block_type_named(std::string_view name) {
  for (const BlockType& type : types)
    if (type.name == name) return type;
  throw internal_error("no type of blocks is called '{}'", name);
}

namespace {

constexpr size_t read_at_once = size_t{32} << 10;  // bytes: fewer numbers than decode_numbers() shares out

// Those of a buffer of read_blocks(), by the calling thread alone.
void decode_here(const BlockType& type, const std::byte* from, std::span<float> to) {
  if (const NumberType* plain = number_type(type)) return decode_numbers(from, *plain, to);
  for (float* at = to.data(); at < to.data() + to.size(); at += type.block, from += type.bytes) type.decode(from, at);
}

}  // namespace

void decode_blocks(const BlockType& type, const std::byte* from, std::span<float> to) {
  if (const NumberType* plain = number_type(type)) return decode_numbers(from, *plain, to);
  each_block(type, to.size(),
             [&](int64_t b) { type.decode(from + static_cast<uint64_t>(b) * type.bytes, to.data() + b * type.block); });
}

int read_blocks(const MappedFile& file, uint64_t at, const BlockType& type, int64_t first, std::span<float> to) {
  if (type.number == 0) return file.read(at + 4 * static_cast<uint64_t>(first), std::as_writable_bytes(to));  // f32
  std::array<std::byte, read_at_once> blocks;
  std::array<float, 256> whole;  // of a block of which some numbers are wanted
  const auto most = static_cast<int64_t>(blocks.size() / type.bytes);
  while (!to.empty()) {
    const int64_t wanted = static_cast<int64_t>(to.size()), skipped = first % type.block;
    const bool cut = skipped != 0 || wanted < type.block;
    const int64_t count = cut ? 1 : std::min(wanted / type.block, most);
    const uint64_t bytes = static_cast<uint64_t>(count) * type.bytes;
    if (const int error = file.read(at + type.bytes_of(first), std::span(blocks).first(bytes))) return error;
    const int64_t numbers = cut ? std::min(type.block - skipped, wanted) : count * type.block;
    const std::span<float> here = to.first(static_cast<size_t>(numbers));
    decode_here(type, blocks.data(), cut ? std::span(whole).first(static_cast<size_t>(type.block)) : here);
    if (cut) std::copy_n(whole.begin() + skipped, numbers, here.begin());
    to = to.subspan(here.size());
    first += numbers;
  }
  return 0;
}

void encode_blocks(const BlockType& type, std::span<const float> from, std::byte* to) {
  if (const NumberType* plain = number_type(type)) return encode_numbers(from, *plain, to);
  each_block(type, from.size(),
             [&](int64_t b) { type.encode(from.data() + b * type.block, to + static_cast<uint64_t>(b) * type.bytes); });
}

}  // namespace hone
