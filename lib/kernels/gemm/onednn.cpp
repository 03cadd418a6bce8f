#include "kernels/gemm/onednn.h"

#include "base/cpu.h"

#ifdef HONE_HAS_ONEDNN

#include <algorithm>
#include <array>
#include <bit>
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

using Products = std::map<Key, std::optional<Product>>;

// Of this thread. Widths vary, too: forget all rather than grow without end.
Products& products() {
  thread_local Products known;
  if (known.size() > 4096) known.clear();
  return known;
}

// Null where this processor has none.
const Product* product_of(const Key& key, Products& known) {
  auto found = known.find(key);
  if (found == known.end()) found = known.emplace(key, make(key)).first;
  return found->second ? &*found->second : nullptr;
}

void execute(const Product& p, const void* a, const void* b, void* c) {
  thread_local dnnl::stream stream(engine());
  p.primitive.execute(stream, {{DNNL_ARG_SRC, memory(p.a, engine(), const_cast<void*>(a))},
                               {DNNL_ARG_WEIGHTS, memory(p.b, engine(), const_cast<void*>(b))},
                               {DNNL_ARG_DST, memory(p.c, engine(), c)}});
  stream.wait();
}

// oneDNN compiles each size of a product, which takes longer than many a product and up to 0.2 MB that stay. Rows of
// experts and pieces of prompts have any number: they are cut, so that few numbers are met. Those are all below 16,
// then four an octave.
int64_t step_at(int64_t rows) {
  return rows < 16 ? 1 : int64_t{1} << (std::bit_width(static_cast<uint64_t>(rows)) - 3);
}
int64_t rounded_down(int64_t rows) {
  return rows & -step_at(rows);
}
int64_t filled_up(int64_t rows) {
  const int64_t step = std::max<int64_t>(step_at(rows), 4);
  return (rows + step - 1) & -step;
}

// For rows with gaps between them oneDNN 2.6 has slower products, and beside panels its reference loops only, which are
// a thousand times slower: they go through these.
thread_local Scratch a_buffer, b_buffer, c_buffer, a_rest, b_rest, c_rest;

View closed(DType type, int64_t rows, int64_t cols, Scratch& buffer) {
  return {buffer.at_least(static_cast<size_t>(rows * cols) * size_of(type)), type, rows, cols, cols};
}

bool has_gaps(ConstView x) {
  return x.stride != x.cols && x.rows > 1;
}

ConstView without_gaps(ConstView x, Scratch& buffer) {
  if (!has_gaps(x)) return {x.data, x.dtype, x.rows, x.cols, x.cols};
  const View to = closed(x.dtype, x.rows, x.cols, buffer);
  convert(x, to);
  return to;
}

// A copy with zeros behind, of `rows` rows.
View filled(ConstView x, int64_t rows, Scratch& buffer) {
  const View to = closed(x.dtype, rows, x.cols, buffer);
  convert(x, rows_of(to, 0, x.rows));
  const View zeros = rows_of(to, x.rows, rows - x.rows);
  zero(zeros.data, static_cast<size_t>(zeros.rows * zeros.cols) * size_of(x.dtype));
  return to;
}

// Of rows without gaps. Either is cut: the rows of a and c, or, of a transposed, those of a and b, where the parts of
// each sum are added in f32.
bool run_cut(Key key, ConstView a, ConstView b, View c) {
  adopt_threads();
  Products& known = products();
  const bool sums = key.a == Layout::columns;
  if (sums && (key.b != Layout::rows || key.output != DType::f32)) {
    const Product* const whole = product_of(key, known);
    if (whole) execute(*whole, a.data, b.data, c.data);
    return whole;
  }
  int64_t& cut = key.sizes[sums ? 2 : 0];
  const int64_t first = rounded_down(cut), rest = cut - first, more = filled_up(rest);
  cut = first;
  const Product* const head = product_of(key, known);
  cut = more;
  key.accumulate |= sums;
  const Product* const tail = rest ? product_of(key, known) : head;
  if (!head || !tail) return false;
  execute(*head, a.data, b.data, c.data);
  if (!rest) return true;
  const ConstView last = rows_of(a, first, rest);
  if (sums) {
    execute(*tail, filled(last, more, a_rest).data, filled(rows_of(b, first, rest), more, b_rest).data, c.data);
  } else if (more == rest) {
    execute(*tail, last.data, b.data, rows_of(c, first, rest).data);
  } else {
    const View to = rows_of(c, first, rest);
    const View sum = key.accumulate ? filled(to, more, c_rest) : closed(c.dtype, more, c.cols, c_rest);
    execute(*tail, filled(last, more, a_rest).data, b.data, sum.data);
    convert(rows_of(sum, 0, rest), to);
  }
  return true;
}

bool run_into(const Key& key, ConstView a, ConstView b, View c) {
  if (!has_gaps(c)) return run_cut(key, a, b, {c.data, c.dtype, c.rows, c.cols, c.cols});
  const View whole = closed(c.dtype, c.rows, c.cols, c_buffer);
  if (key.accumulate) convert(c, whole);
  if (!run_cut(key, a, b, whole)) return false;
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

int64_t compiled() {
  return static_cast<int64_t>(products().size());
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
  return run_into(key, without_gaps(a, a_buffer), {panels, DType::bf16, k, n, n}, c);
}

}  // namespace hone::kernels::onednn

#else

namespace hone::kernels::onednn {
bool available() {
  return false;
}
int64_t compiled() {
  return 0;
}
bool gemm(ConstView, bool, ConstView, bool, View, bool) {
  return false;
}
bool gemm_panels(ConstView, const bf16*, int64_t, int64_t, View) {
  return false;
}
}  // namespace hone::kernels::onednn

#endif
