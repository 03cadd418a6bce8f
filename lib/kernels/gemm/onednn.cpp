#include "kernels/gemm/onednn.h"

#include "base/cpu.h"

#ifdef HONE_HAS_ONEDNN

#include <array>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <string_view>

#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"
#include "kernels/scratch.h"

namespace hone::kernels::onednn {
namespace {

using dnnl::memory;

// oneDNN fixes its instruction set at its first primitive, so the level at that moment stays for the process.
const dnnl::engine& engine() {
  static const dnnl::engine instance = [] {
    dnnl::cpu_isa limit = dnnl::cpu_isa::avx2;
    if (isa() >= Isa::avx512) limit = dnnl::cpu_isa::avx512_core_vnni;
    if (isa() >= Isa::avx512_bf16) limit = dnnl::cpu_isa::avx512_core_bf16;
    if (isa() >= Isa::amx) limit = dnnl::cpu_isa::avx512_core_amx;
    dnnl::set_max_cpu_isa(limit);
    return dnnl::engine(dnnl::engine::kind::cpu, 0);
  }();
  return instance;
}

memory::data_type type_of(DType type) {
  return type == DType::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

enum class Layout { rows, columns, panels };

struct Key {
  std::array<int64_t, 3> sizes;  // m, n, k
  Layout a, b;
  DType input, output;
  bool accumulate;
  int threads;
  auto operator<=>(const Key&) const = default;
};

struct Product {
  dnnl::matmul primitive;
  memory::desc a, b, c;
};

memory::desc describe(int64_t rows, int64_t cols, memory::data_type type, Layout layout) {
  switch (layout) {
    case Layout::rows:
      return memory::desc({rows, cols}, type, memory::format_tag::ab);
    case Layout::columns:
      return memory::desc({rows, cols}, type, memory::format_tag::ba);
    case Layout::panels:
      return memory::desc({rows, cols}, type, memory::format_tag::BA16a64b2a);
  }
  return {};
}

// What a user's environment or oneDNN's defaults might decide otherwise.
template <class Attributes>
void fix(Attributes& attributes) {
  // ONEDNN_DEFAULT_FPMATH_MODE lets f32 be multiplied as bf16.
  attributes.set_fpmath_mode(dnnl::fpmath_mode::strict);
  // Newer versions may add in an order that differs from run to run unless told not to.
  if constexpr (requires { attributes.set_deterministic(true); }) attributes.set_deterministic(true);
}

// The implementation for the case; an empty one where this processor has none. oneDNN 2 wants the operation described
// on its own first.
dnnl::matmul::primitive_desc choose(const Product& product, const dnnl::primitive_attr& attributes) {
#if DNNL_VERSION_MAJOR >= 3
  return {engine(), product.a, product.b, product.c, attributes, true};
#else
  return {dnnl::matmul::desc(product.a, product.b, product.c), attributes, engine(), true};
#endif
}

std::optional<Product> make(const Key& key) {
  const auto [m, n, k] = key.sizes;
  Product product;
  product.a = describe(m, k, type_of(key.input), key.a);
  product.b = describe(k, n, type_of(key.input), key.b);
  product.c = describe(m, n, type_of(key.output), Layout::rows);
  dnnl::primitive_attr attributes;
  fix(attributes);
  if (key.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  try {
    const dnnl::matmul::primitive_desc chosen = choose(product, attributes);
    // Its reference implementation is a thousand times slower than ours.
    if (!chosen || std::string_view(chosen.impl_info_str()).starts_with("ref")) return std::nullopt;
    product.primitive = dnnl::matmul(chosen);
  } catch (const dnnl::error&) {
    return std::nullopt;  // this processor has no implementation for the case
  }
  return product;
}

bool run(const Key& key, const void* a, const void* b, void* c) {
  // Lengths vary in evaluation and serving: forget all rather than grow without end.
  adopt_threads();
  thread_local std::map<Key, std::optional<Product>> cache;
  if (cache.size() > 4096) cache.clear();
  auto found = cache.find(key);
  if (found == cache.end()) found = cache.emplace(key, make(key)).first;
  if (!found->second) return false;
  const Product& p = *found->second;
  thread_local dnnl::stream stream(engine());
  p.primitive.execute(stream, {{DNNL_ARG_SRC, memory(p.a, engine(), const_cast<void*>(a))},
                               {DNNL_ARG_WEIGHTS, memory(p.b, engine(), const_cast<void*>(b))},
                               {DNNL_ARG_DST, memory(p.c, engine(), c)}});
  stream.wait();
  return true;
}

// For rows with gaps between them oneDNN 2.6 has slower products, and beside panels its reference loops only, which are
// a thousand times slower: they go through these.
thread_local Scratch a_buffer, b_buffer, c_buffer;

View closed(DType type, int64_t rows, int64_t cols, Scratch& buffer) {
  return {buffer.at_least(static_cast<size_t>(rows * cols) * size_of(type)), type, rows, cols, cols};
}

bool has_gaps(ConstView x) {
  return x.stride != x.cols && x.rows > 1;
}

const void* without_gaps(ConstView x, Scratch& buffer) {
  if (!has_gaps(x)) return x.data;
  const View to = closed(x.dtype, x.rows, x.cols, buffer);
  convert(x, to);
  return to.data;
}

bool run_into(const Key& key, const void* a, const void* b, View c) {
  if (!has_gaps(c)) return run(key, a, b, c.data);
  const View whole = closed(c.dtype, c.rows, c.cols, c_buffer);
  if (key.accumulate) convert(c, whole);
  if (!run(key, a, b, whole.data)) return false;
  convert(whole, c);
  return true;
}

bool takes(DType type) {
  return isa() >= (type == DType::f32 ? Isa::avx2 : Isa::avx512_bf16);
}

}  // namespace

bool available() {
  return true;
}

bool gemm(ConstView a, bool transpose_a, ConstView b, bool transpose_b, View c, bool accumulate) {
  if (!takes(a.dtype)) return false;
  const Key key{{c.rows, c.cols, transpose_a ? a.rows : a.cols},
                transpose_a ? Layout::columns : Layout::rows,
                transpose_b ? Layout::columns : Layout::rows,
                a.dtype,
                c.dtype,
                accumulate,
                threads()};
  return run_into(key, without_gaps(a, a_buffer), without_gaps(b, b_buffer), c);
}

bool gemm_panels(ConstView a, const bf16* panels, int64_t n, int64_t k, View c) {
  if (!takes(a.dtype) || a.dtype != DType::bf16) return false;
  const Key key{{c.rows, n, k}, Layout::rows, Layout::panels, a.dtype, c.dtype, false, threads()};
  return run_into(key, without_gaps(a, a_buffer), panels, c);
}

}  // namespace hone::kernels::onednn

#else

namespace hone::kernels::onednn {
bool available() {
  return false;
}
bool gemm(ConstView, bool, ConstView, bool, View, bool) {
  return false;
}
bool gemm_panels(ConstView, const bf16*, int64_t, int64_t, View) {
  return false;
}
}  // namespace hone::kernels::onednn

#endif
