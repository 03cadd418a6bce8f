// How a code's file, codes/NAME.cpp, makes its functions: from the type of its codes (codes.h).
#pragma once

#include "kernels/isa/attention/decode.h"

namespace hone::kernels::HONE_ISA {

template <class Code, class T>
inline void encode_all(const CodeRows& to, int64_t bytes, int64_t row_stride, const T* from, int64_t count,
                       float* room) {
  const int64_t n = to.head_dim;
  for (int64_t r = 0; r < count; ++r, from += row_stride) {
    for (int64_t i = 0; i < n; ++i) room[i] = widen(from[i]);
    rotate_row(room, n);
    const float inverse = scale_of_row(room, n, Code::most, to.scales[r]);
    Code::encode(room, n, inverse, reinterpret_cast<Code*>(to.codes + r * bytes));
  }
}

template <class Code, class T>
inline void decode_all(const CodeRows& from, int64_t bytes, int64_t row_stride, T* out, int64_t count, float* room) {
  const int64_t n = from.head_dim;
  for (int64_t r = 0; r < count; ++r, out += row_stride) {
    const auto* codes = reinterpret_cast<const Code*>(from.codes + r * bytes);
    const Vec scale = broadcast(widen(from.scales[r]));
    for (int64_t d = 0; d < n; d += lanes) store(room + d, Code::load(codes, d) * scale);
    rotate_row(room, n);
    for (int64_t i = 0; i < n; ++i) narrow(room[i], out[i]);
  }
}

template <CacheCode code, class Code>
struct CodeKernels {
  static constexpr CacheCodeInfo info = info_of(code);
  static int64_t row_bytes(int64_t head_dim) { return (head_dim + info.numbers - 1) / info.numbers * info.bytes; }

  static void decode(const DecodeArgs& args, const DecodeItem& item) {
    args.q.dtype == DType::bf16 ? Decode<bf16, Code>(args, item).run() : Decode<float, Code>(args, item).run();
  }
  static void encode_rows(const CodeRows& to, const ConstHeadRows& from, int64_t count, float* room) {
    const int64_t bytes = row_bytes(to.head_dim);
    if (from.dtype == DType::bf16)
      encode_all<Code>(to, bytes, from.row_stride, static_cast<const bf16*>(from.data), count, room);
    else
      encode_all<Code>(to, bytes, from.row_stride, static_cast<const float*>(from.data), count, room);
  }
  static void decode_rows(const CodeRows& from, const HeadRows& to, int64_t count, float* room) {
    const int64_t bytes = row_bytes(from.head_dim);
    if (to.dtype == DType::bf16)
      decode_all<Code>(from, bytes, to.row_stride, static_cast<bf16*>(to.data), count, room);
    else
      decode_all<Code>(from, bytes, to.row_stride, static_cast<float*>(to.data), count, room);
  }
};

template <CacheCode code, class Code>
constexpr CodeFunctions functions_of_code() {
  using Kernels = CodeKernels<code, Code>;
  return {Kernels::decode, Kernels::encode_rows, Kernels::decode_rows};
}

}  // namespace hone::kernels::HONE_ISA
