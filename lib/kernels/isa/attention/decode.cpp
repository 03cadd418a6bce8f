// Decoding from a cache of any kind.
#include "kernels/isa/attention/decode.h"

#include "kernels/isa/attention/functions.h"

namespace hone::kernels::HONE_ISA {
namespace {

template <class Q>
void decode_from(const DecodeArgs& args, const DecodeItem& item) {
  args.k.dtype == DType::bf16 ? Decode<Q, bf16>(args, item).run() : Decode<Q, float>(args, item).run();
}

}  // namespace

size_t decode_scratch(const DecodeArgs& args) {
  return Decode<float, float>::scratch(args);
}

void decode(const DecodeArgs& args, const DecodeItem& item) {
  if (args.code != CacheCode::none) return functions_of_kind(args.code).decode(args, item);
  args.q.dtype == DType::bf16 ? decode_from<bf16>(args, item) : decode_from<float>(args, item);
}

}  // namespace hone::kernels::HONE_ISA
