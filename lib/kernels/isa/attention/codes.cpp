// Rows of keys and values to codes and back.
#include "kernels/isa/attention/codes.h"

#include "kernels/isa/attention/functions.h"

namespace hone::kernels::HONE_ISA {
namespace {

float largest_of(const float* row, int64_t n) {
  uint32_t largest = 0;  // as bits: a NaN is larger than infinity
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, row + i, 4);
    bits &= 0x7fffffffu;
    largest = bits > largest ? bits : largest;
  }
  float x;
  __builtin_memcpy(&x, &largest, 4);
  return x;
}

// The scale that the largest number is `most` of, and its inverse: 0 for a row of zeros, NaN for what is not finite.
float scale_of(const float* row, int64_t n, float most, bf16& stored) {
  const float largest = largest_of(row, n);
  if (!(largest <= __FLT_MAX__)) {
    stored = bf16{0x7fc0};
    return 0;
  }
  narrow(largest > 1e-30f ? largest / most : 0.0f, stored);
  return largest > 1e-30f ? 1 / widen(stored) : 0;
}

void encode_8(const float* row, int64_t n, Code8* out, bf16& scale) {
  const float inverse = scale_of(row, n, 127, scale);
  for (int64_t i = 0; i < n; ++i) {
    const float x = row[i] * inverse, clamped = x < -127 ? -127 : x > 127 ? 127 : x;
    out[i].q = static_cast<int8_t>((clamped + 12582912.0f) - 12582912.0f);  // to nearest: no bits for a fraction
  }
  for (int64_t i = n; i < (n + 15) / 16 * 16; ++i) out[i].q = 0;
}

void encode_4(const float* row, int64_t n, Code4* out, bf16& scale) {
  const float inverse = scale_of(row, n, 7.5f, scale);
  const auto code = [&](int64_t i) {
    const float x = (i < n ? row[i] * inverse : 0) + 8, clamped = x < 0 ? 0 : x > 15 ? 15 : x;
    return static_cast<int>(clamped);
  };
  for (int64_t d = 0; d < n; d += 32, out += 16)
    for (int64_t i = 0; i < 16; ++i) out[i].pair = static_cast<uint8_t>(code(d + i) | code(d + i + 16) << 4);
}

template <class T>
void encode(const CodeRows& to, int64_t row_stride, const T* from, int64_t count, float* room) {
  for (int64_t r = 0; r < count; ++r, from += row_stride) {
    for (int64_t i = 0; i < to.head_dim; ++i) room[i] = widen(from[i]);
    rotate_row(room, to.head_dim);
    uint8_t* codes = to.codes + r * code_row_bytes(to.code, to.head_dim);
    if (to.code == CacheCode::int8)
      encode_8(room, to.head_dim, reinterpret_cast<Code8*>(codes), to.scales[r]);
    else
      encode_4(room, to.head_dim, reinterpret_cast<Code4*>(codes), to.scales[r]);
  }
}

template <class Code, class T>
void decode_as(const CodeRows& from, int64_t row_stride, T* out, int64_t count, float* room) {
  const int64_t n = from.head_dim, bytes = code_row_bytes(from.code, n);
  for (int64_t r = 0; r < count; ++r, out += row_stride) {
    const auto* codes = reinterpret_cast<const Code*>(from.codes + r * bytes);
    const Vec scale = broadcast(widen(from.scales[r]));
    for (int64_t d = 0; d < n; d += lanes) store(room + d, load_code(codes, d) * scale);
    rotate_row(room, n);
    for (int64_t i = 0; i < n; ++i) narrow(room[i], out[i]);
  }
}

template <class T>
void decode(const CodeRows& from, int64_t row_stride, T* out, int64_t count, float* room) {
  from.code == CacheCode::int8 ? decode_as<Code8>(from, row_stride, out, count, room)
                               : decode_as<Code4>(from, row_stride, out, count, room);
}

}  // namespace

void encode_rows(const CodeRows& to, const ConstHeadRows& from, int64_t count, float* room) {
  if (from.dtype == DType::bf16)
    encode(to, from.row_stride, static_cast<const bf16*>(from.data), count, room);
  else
    encode(to, from.row_stride, static_cast<const float*>(from.data), count, room);
}

void decode_rows(const CodeRows& from, const HeadRows& to, int64_t count, float* room) {
  if (to.dtype == DType::bf16)
    decode(from, to.row_stride, static_cast<bf16*>(to.data), count, room);
  else
    decode(from, to.row_stride, static_cast<float*>(to.data), count, room);
}

void rotate(float* row, int64_t n) {
  rotate_row(row, n);
}

}  // namespace hone::kernels::HONE_ISA
