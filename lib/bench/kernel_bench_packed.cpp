// The packed weights of `bench --kernels`: matrices of 2048 x 2048, one after the other.
#include <memory>

#include "base/random.h"
#include "bench/kernel_bench_cases.h"
#include "weights/packed_weight.h"

namespace hone::kernel_bench {
namespace {

constexpr int64_t packed_side = 2048;

Bitmask random_mask(double kept) {
  Random random(2, "mask");
  const Bitmask mask = Bitmask::zeros(packed_side, packed_side);
  for (uint8_t& byte : mask.bits().span<uint8_t>())
    for (int bit = 0; bit < 8; ++bit) byte = static_cast<uint8_t>(byte | (random.uniform() < kept) << bit);
  return mask;
}

// Codes at random, scaled by row; by 32 columns where they have 4 bits or fewer.
int64_t group_of(const kernels::ElementInfo& element) {
  return element.bits > 4 ? 0 : 32;
}

std::shared_ptr<Weight> packed_integers(kernels::PackedElement element, const Bitmask& mask) {
  const kernels::ElementInfo& info = kernels::info_of(element);
  const int64_t group = group_of(info);
  Random random(3, "integers");
  QuantizedMatrix m;
  m.rows = m.cols = packed_side;
  m.group = group;
  m.element = element;
  m.integers = Tensor::empty({packed_side, packed_side}, DType::i8);
  std::vector<int8_t> coded;
  for (int q = info.lowest; q <= info.highest; ++q)
    if (info.code_of(q) >= 0) coded.push_back(static_cast<int8_t>(q));
  for (int8_t& q : m.integers.span<int8_t>()) q = coded[random.below(coded.size())];
  m.scales = Tensor::empty({packed_side, group_count(packed_side, group)});
  for (float& s : m.scales.span<float>()) s = 0.0078125f;
  m.mask = mask;
  return pack_integers(m);
}

// y[rows, n] = x W^T through one matrix after the other, as a model's layers follow each other.
KernelCase packed(kernels::PackedElement element, bool sparse, int64_t rows,
                  const kernels::ActivationRounding& rounding) {
  const Bitmask mask = sparse ? random_mask(0.4) : Bitmask();
  const std::shared_ptr<Weight> first = kernels::info_of(element).scaled
                                            ? packed_integers(element, mask)
                                            : pack_numbers(element, random_tensor({packed_side, packed_side}), mask);
  const auto matrices = std::make_shared<std::vector<std::shared_ptr<Weight>>>();
  double bytes = 0;
  while (bytes < static_cast<double>(large_bytes())) {
    Encoded copy = first->encode();
    for (auto& [name, array] : copy.arrays) array = array.clone();
    matrices->push_back(decode_weight(copy, "bench"));
    matrices->back()->set_rounding(rounding);
    bytes += static_cast<double>(matrices->back()->stored_bytes());
  }
  const Tensor x = random_tensor({rows, packed_side}, DType::bf16), y = Tensor::empty({rows, packed_side}, DType::bf16);
  return {DType::bf16, 0, bytes, [=] {
            for (const auto& matrix : *matrices) matrix->matmul(x.view(), y.view());
          }};
}

KernelEntry packed_entry(kernels::PackedElement element, bool sparse, int64_t rows,
                         const kernels::ActivationRounding& rounding = {}) {
  const kernels::ElementInfo& info = kernels::info_of(element);
  std::string name = sparse ? "packed_sparse_" : "packed_", shape = fmt::format("{} x 2048 -> 2048", rows);
  name += info.name;
  if (info.scaled && group_of(info)) shape += fmt::format(", group {}", group_of(info));
  if (sparse) shape += ", 60% sparse";
  if (rounding.integer_bits() == 8) shape += ", 8-bit activations";
  return {name, shape, false, [=] { return packed(element, sparse, rows, rounding); }};
}

}  // namespace

void add_packed_entries(std::vector<KernelEntry>& to) {
  for (const int64_t rows : {1, 8, 32, 64})
    for (const bool sparse : {false, true})
      for (const kernels::PackedElement element : kernels::all_elements)
        to.push_back(packed_entry(element, sparse, rows));
  // Through dot products, or tiles where there are some.
  for (const int64_t rows : {16, 64})
    to.push_back(packed_entry(kernels::element_named("int8"), false, rows, {.bits = 8}));
}

}  // namespace hone::kernel_bench
