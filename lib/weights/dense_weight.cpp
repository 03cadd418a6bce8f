#include "weights/dense_weight.h"

#include <bit>

#include "base/error.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/int8.h"
#include "kernels/rows/elementwise.h"

namespace hone {

void make_writable(Tensor& tensor) {
  if (tensor && !tensor.writable() && !tensor.promised()) tensor = tensor.clone();
}

DenseWeight::DenseWeight(Tensor value, Bitmask mask) {
  parameter_.value = std::move(value);
  parameter_.decay = true;
  if (mask) set_mask(std::move(mask));
}

void DenseWeight::set_mask(Bitmask mask) {
  mask_ = std::move(mask);
  if (!mask_) return;
  assert(mask_.fits(rows(), cols()));
  make_writable(parameter_.value);
  kernels::apply_mask(parameter_.value.view(), mask_.data());
  ++parameter_.version;
}

template <class Pack>
void DenseWeight::keep_current(Panels& which, bool transposed, Pack&& pack) const {
  const uint64_t wanted = parameter_.version + 1;
  if (which.packed.load(std::memory_order_acquire) == wanted) return;
  const std::lock_guard lock(which.mutex);
  if (which.packed.load(std::memory_order_relaxed) == wanted) return;
  transposed ? pack(cols(), rows()) : pack(rows(), cols());
  which.packed.store(wanted, std::memory_order_release);
}

const bf16* DenseWeight::panels(Panels& which, bool transposed) const {
  keep_current(which, transposed, [&](int64_t n, int64_t k) {
    if (!which.data) which.data = Tensor::empty({kernels::panel_elements(n, k)}, DType::bf16);
    kernels::pack_panels(parameter_.value.view(), transposed, which.data.data<bf16>());
  });
  return which.data.data<bf16>();
}

std::optional<kernels::PackedMatrix> DenseWeight::integers(bool transposed) const {
  Panels& which = transposed ? integers_backward_ : integers_forward_;
  keep_current(which, transposed, [&](int64_t n, int64_t k) {
    const kernels::Int8Sizes sizes = kernels::int8_sizes(n, k);
    if (!which.data) {
      which.data = Tensor::empty({sizes.values}, DType::u8);
      which.scales = Tensor::empty({sizes.scales}, DType::bf16);
    }
    kernels::pack_int8(parameter_.value.view(), transposed, which.data.data<uint8_t>(), which.scales.data<bf16>());
  });
  return kernels::int8_matrix(transposed ? cols() : rows(), transposed ? rows() : cols(), which.data.data<uint8_t>(),
                              which.scales.data<bf16>());
}

// The same bytes as a packed bf16 weight's: few rows run in its bandwidth-bound kernel, many in the dense product.
kernels::PackedMatrix DenseWeight::panel_matrix(const bf16* data) const {
  using namespace kernels;
  constexpr PackedElement element = element_named("bf16");
  PackedMatrix matrix{PackedLayout::panels, element, packed_shape(element, rows(), cols(), 0)};
  matrix.values = data;
  return matrix;
}

std::optional<kernels::PackedMatrix> DenseWeight::packed(DType x) const {
  if (x != DType::bf16) return {};
  return panel_matrix(panels(forward_, false));
}

void DenseWeight::matmul(kernels::ConstView x, kernels::View y) const {
  if (const auto matrix = packed(x.dtype))
    kernels::packed_matmul(*matrix, x, y);
  else
    kernels::gemm(x, false, parameter_.value.view(), true, y);
}

void DenseWeight::matmul_dx(kernels::ConstView dy, kernels::View dx) const {
  if (dy.dtype == DType::bf16)
    kernels::gemm_panels(dy, panels(backward_, true), cols(), rows(), dx);
  else
    kernels::gemm(dy, false, parameter_.value.view(), false, dx);
}

void DenseWeight::add_dw(kernels::ConstView dy, kernels::ConstView x) {
  if (!parameter_.trainable) return;
  if (!parameter_.grad) parameter_.grad = Tensor::empty(parameter_.value.shape());
  kernels::gemm(dy, true, x, false, parameter_.grad.view(), parameter_.has_grad);
  parameter_.has_grad = true;
}

void DenseWeight::gather(std::span<const int32_t> ids, kernels::View out) const {
  kernels::gather_rows(parameter_.value.data<float>(), cols(), ids, out);
}

Encoded DenseWeight::encode() const {
  Encoded e{form(), element(), parameter_.value.shape(), {}, {{"values", parameter_.value}}};
  if (mask_) e.arrays["mask"] = mask_.bits();
  return e;
}

// What a decode step reads: the bf16 panels where bf16 products are used, the master elsewhere.
int64_t DenseWeight::stored_bytes() const {
  return forward_.packed.load(std::memory_order_acquire) ? static_cast<int64_t>(forward_.data.bytes())
                                                         : static_cast<int64_t>(parameter_.value.bytes());
}

int64_t DenseWeight::nonzeros() const {
  if (parameter_.value.promised()) return parameter_.value.size();  // what it will be once it is initialized
  int64_t count = 0;
  for (float w : parameter_.value.span<float>()) count += w != 0.0f;
  return count;
}

}  // namespace hone
