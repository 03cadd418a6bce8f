#include "weights/weight.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <iterator>

#include "base/error.h"
#include "kernels/parallel.h"
#include "weights/deferred_weight.h"
#include "weights/dense_weight.h"
#include "weights/nonfinite.h"
#include "weights/packed_weight.h"

namespace hone {

void Weight::matmul_dx(kernels::ConstView, kernels::View) const {
  throw usage_error("a {} {} weight cannot be trained through; start from the model before it was quantized", form(),
                    element());
}

void Weight::add_dw(kernels::ConstView, kernels::ConstView) {}

void Weight::set_mask(Bitmask) {
  throw usage_error("the mask of a {} {} weight is fixed; prune the model before it is quantized", form(), element());
}

namespace {

Tensor array_of(const Encoded& e, const char* name, const Shape& shape, DType dtype, const std::string& where) {
  const auto found = e.arrays.find(name);
  if (found == e.arrays.end()) throw input_error("{}: the '{}' array of a {} weight is missing", where, name, e.form);
  const Tensor& t = found->second;
  if (t.shape() != shape || t.dtype() != dtype)
    throw input_error("{}: array '{}' is {} {} where {} {} is needed", where, name, name_of(t.dtype()),
                      to_string(t.shape()), name_of(dtype), to_string(shape));
  return t;
}

std::shared_ptr<Weight> decode_dense(const Encoded& e, const std::string& where) {
  return std::make_shared<DenseWeight>(array_of(e, "values", e.shape, DType::f32, where));
}

std::shared_ptr<Weight> decode_masked(const Encoded& e, const std::string& where) {
  const Tensor values = array_of(e, "values", e.shape, DType::f32, where);
  const int64_t rows = e.shape[0], cols = e.shape[1];
  const Tensor bits = array_of(e, "mask", {rows, kernels::bit_row_bytes(cols)}, DType::u8, where);
  return std::make_shared<DenseWeight>(values, Bitmask(bits, rows, cols));
}

struct Row {
  std::string_view form;
  std::shared_ptr<Weight> (*decode)(const Encoded&, const std::string&);
  std::string_view beside;  // the array that products do not read
};

// Every form a file may hold.
constexpr Row table[] = {
    {"dense", decode_dense, ""},
    {"masked", decode_masked, "mask"},
    {"panels", decode_packed, "kept"},
    {"bitmask", decode_packed, ""},
};

const Row* find_form(const std::string& form) {
  const Row* found = std::find_if(std::begin(table), std::end(table), [&](const Row& row) { return row.form == form; });
  return found == std::end(table) ? nullptr : found;
}

}  // namespace

bool is_form_attribute(std::string_view name) {
  return name == "group" || name == nonzeros_attribute || name == pruned_attribute || name == activation_bits_attribute;
}

namespace {

// Counted in 32 bits, which take half of the vectors that a sum of 64 would.
template <class Bits>
int64_t count_exponents(std::span<const std::byte> bytes, Bits exponent) {
  constexpr size_t block = size_t{1} << 16;
  const size_t n = bytes.size() / sizeof(Bits);
  int64_t total = 0;
  for (size_t begin = 0; begin < n; begin += block) {
    const std::byte* at = bytes.data() + begin * sizeof(Bits);
    uint32_t count = 0;
    for (size_t i = 0, all = std::min(block, n - begin); i < all; ++i, at += sizeof(Bits)) {
      Bits x;
      std::memcpy(&x, at, sizeof x);
      count += static_cast<uint32_t>((x & exponent) == exponent);
    }
    total += count;
  }
  return total;
}

}  // namespace

int64_t count_nonfinite(std::span<const std::byte> bytes, DType dtype) {
  if (dtype == DType::f32) return count_exponents<uint32_t>(bytes, 0x7f800000u);
  if (dtype == DType::bf16) return count_exponents<uint16_t>(bytes, 0x7f80u);
  return 0;
}

int64_t count_nonfinite(const Encoded& encoded) {
  constexpr int64_t piece = 1 << 16;
  std::atomic<int64_t> total{0};
  for (const auto& [name, array] : encoded.arrays) {
    if (array.dtype() != DType::f32 && array.dtype() != DType::bf16) continue;
    const auto size = static_cast<int64_t>(size_of(array.dtype()));
    kernels::parallel_for(array.size(), piece, [&](int64_t begin, int64_t end) {
      total += count_nonfinite({array.raw() + begin * size, static_cast<size_t>((end - begin) * size)}, array.dtype());
    });
  }
  return total;
}

int64_t stored_bytes(const Encoded& encoded) {
  const Row* row = find_form(encoded.form);
  int64_t bytes = 0;
  for (const auto& [name, array] : encoded.arrays)
    if (!row || name != row->beside) bytes += static_cast<int64_t>(array.bytes());
  return bytes;
}

std::shared_ptr<Weight> decode_weight(const Encoded& encoded, const std::string& where) {
  if (encoded.shape.size() != 2 || encoded.shape[0] < 1 || encoded.shape[1] < 1)
    throw input_error("{}: a matrix of shape {} is not possible", where, to_string(encoded.shape));
  const Row* row = find_form(encoded.form);
  if (!row)
    throw input_error("{}: unknown form '{}'; update hone if the file comes from a newer version", where, encoded.form);
  if (encoded.verify) return std::make_shared<DeferredWeight>(encoded, where);
  return row->decode(encoded, where);
}

std::shared_ptr<Weight> with_activation_bits(const Weight& weight, int bits) {
  Encoded encoded = weight.encode();
  encoded.attributes[activation_bits_attribute] = bits;
  return decode_weight(encoded, "packed weight");
}

std::shared_ptr<Weight> with_activation_bits_of(const Weight& before, std::shared_ptr<Weight> made) {
  const Encoded encoded = before.encode();
  const auto stored = encoded.attributes.find(activation_bits_attribute);
  return stored == encoded.attributes.end() ? made : with_activation_bits(*made, static_cast<int>(stored->second));
}

}  // namespace hone
