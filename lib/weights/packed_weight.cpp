#include "weights/packed_weight.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hone {
namespace {

using kernels::PackedElement;
using kernels::PackedLayout;
using kernels::PackedMatrix;
using kernels::PackedShape;

// Index = value of the enumeration.
constexpr std::array<std::string_view, kernels::layout_count> layouts = {"panels", "bitmask"};

// Far above any matrix, far below where sizes in bytes overflow.
constexpr int64_t largest_side = (int64_t{1} << 31) - 1;
constexpr int64_t largest_matrix = int64_t{1} << 40;

std::optional<PackedLayout> find_layout(std::string_view name) {
  const auto found = std::find(layouts.begin(), layouts.end(), name);
  if (found == layouts.end()) return std::nullopt;
  return static_cast<PackedLayout>(found - layouts.begin());
}

bool is_scaled(PackedElement e) {
  return kernels::info_of(e).scaled;
}

DType values_type(PackedElement e) {
  return kernels::info_of(e).is_bf16() ? DType::bf16 : DType::u8;
}

PackedShape shape_of(const Encoded& encoded, PackedElement element, const std::string& where) {
  const Shape& s = encoded.shape;
  if (s.size() != 2 || s[0] < 1 || s[1] < 1 || s[0] > largest_side || s[1] > largest_side ||
      s[0] > largest_matrix / s[1])
    throw input_error("{}: shape {} is not that of a packed matrix; the file is damaged", where, to_string(s));
  const auto attribute = encoded.attributes.find("group");
  const int64_t group = attribute == encoded.attributes.end() ? 0 : attribute->second;
  const bool allowed = group == 0 || (is_scaled(element) && (group == 32 || group == 64 || group == 128));
  if (!allowed)
    throw input_error("{}: a group of {} columns is not one this program reads (32, 64 or 128)", where, group);
  return kernels::packed_shape(element, s[0], s[1], group);
}

std::optional<int> activation_bits_of(const Encoded& encoded, const std::string& where) {
  const auto attribute = encoded.attributes.find(activation_bits_attribute);
  if (attribute == encoded.attributes.end()) return {};
  if (attribute->second != 8 && attribute->second != 16)
    throw input_error("{}: activations of {} bits are not what this program computes with (8 or 16)", where,
                      attribute->second);
  return static_cast<int>(attribute->second);
}

// The array `name`, which must have this type and this number of elements.
const Tensor& array_of(const Encoded& encoded, const char* name, DType type, int64_t size, const std::string& where) {
  const auto found = encoded.arrays.find(name);
  if (found == encoded.arrays.end() || !found->second)
    throw input_error("{}: the array '{}' of a {} {} weight is missing; the file is damaged", where, name, encoded.form,
                      encoded.element);
  const Tensor& t = found->second;
  if (t.dtype() != type || t.size() != size)
    throw input_error("{}/{}: {} elements of type {} where the shape {} needs {} of type {}; the file is damaged",
                      where, name, t.size(), name_of(t.dtype()), to_string(encoded.shape), size, name_of(type));
  return t;
}

// Format 1 had masks of 32 or 64 bits: the same bytes.
void mask_to_bytes(Encoded& encoded) {
  const auto mask = encoded.form == layouts[1] ? encoded.arrays.find("mask") : encoded.arrays.end();
  if (mask == encoded.arrays.end() || !mask->second) return;
  const DType type = mask->second.dtype();
  if (type == DType::u64 || type == DType::u32) mask->second = mask->second.as_bytes();
}

// Replaces an array that is not aligned for what it is read as (a file not written by this program) by a copy.
void align(Encoded& encoded) {
  for (auto& [name, array] : encoded.arrays)
    if (array && reinterpret_cast<uintptr_t>(array.raw()) % sizeof(uint64_t) != 0) {
      Tensor copy = Tensor::empty(array.shape(), array.dtype());
      std::memcpy(copy.raw(), array.raw(), array.bytes());
      array = copy;
    }
}

int64_t slack_elements(PackedElement e) {
  return kernels::packed_slack / static_cast<int64_t>(size_of(values_type(e)));
}

// Offsets must be exactly what the masks say; with that, the sizes of the arrays bound every read.
void bind_bitmask(const Encoded& encoded, PackedMatrix& m, const std::string& where) {
  const PackedShape& s = m.shape;
  const Tensor& masks = array_of(encoded, "mask", DType::u8, s.tiles() * s.mask_bytes, where);
  const Tensor& offsets = array_of(encoded, "offsets", DType::u64, s.panels + 1, where);
  std::vector<uint64_t> expected(static_cast<size_t>(s.panels + 1));
  if (!kernels::packed_offsets(m.element, s, masks.raw(), expected.data()))
    throw input_error("{}/mask: elements outside the matrix {} are marked; the file is damaged", where,
                      to_string(encoded.shape));
  if (!std::equal(expected.begin(), expected.end(), offsets.data<uint64_t>()))
    throw input_error("{}/offsets: they do not agree with the mask; the file is damaged", where);
  const int64_t bytes = static_cast<int64_t>(expected.back());
  const int64_t size = bytes / static_cast<int64_t>(size_of(values_type(m.element))) + slack_elements(m.element);
  m.values = array_of(encoded, "values", values_type(m.element), size, where).raw();
  m.masks = masks.raw();
  m.offsets = offsets.data<uint64_t>();
}

void bind_panels(const Encoded& encoded, PackedMatrix& m, const std::string& where) {
  const PackedShape& s = m.shape;
  const DType type = values_type(m.element);
  m.values =
      array_of(encoded, "values", type, s.panels * s.panel_bytes / static_cast<int64_t>(size_of(type)), where).raw();
  if (encoded.arrays.contains("kept"))
    array_of(encoded, "kept", DType::u8, s.rows * kernels::bit_row_bytes(s.cols), where);
}

PackedMatrix bind_arrays(const Encoded& encoded, const std::string& where) {
  const auto layout = find_layout(encoded.form);
  const auto element = kernels::find_element(encoded.element);
  if (!layout || !element)
    throw input_error("{}: no packed weight is called '{} {}'; was the file written by a newer version?", where,
                      encoded.form, encoded.element);
  PackedMatrix m{*layout, *element, {}};
  m.shape = shape_of(encoded, m.element, where);
  if (m.layout == PackedLayout::bitmask) {
    bind_bitmask(encoded, m, where);
  } else {
    bind_panels(encoded, m, where);
  }
  if (is_scaled(m.element))
    m.scales = array_of(encoded, "scales", DType::bf16, m.shape.panels * m.shape.groups * kernels::panel_rows, where)
                   .data<bf16>();
  return m;
}

Encoded aligned(Encoded encoded) {
  mask_to_bytes(encoded);
  align(encoded);
  return encoded;
}

// ---- packing ----

// `source` with zeros outside the mask.
template <class T>
Tensor masked(const Tensor& source, const Bitmask& mask) {
  Tensor out = source.clone();
  const int64_t cols = mask.cols();
  for (int64_t r = 0; r < mask.rows(); ++r)
    for (int64_t c = 0; c < cols; ++c)
      if (!mask.at(r, c)) out.data<T>()[r * cols + c] = T{};
  return out;
}

Tensor panel_scales(const QuantizedMatrix& q, const PackedShape& s) {
  if (q.scales.dtype() != DType::f32 || q.scales.size() != q.rows * s.groups)
    throw internal_error("the scales of a quantized matrix do not fit it");
  Tensor out = Tensor::zeros({s.panels, s.groups, kernels::panel_rows}, DType::bf16);
  for (int64_t r = 0; r < q.rows; ++r)
    for (int64_t g = 0; g < s.groups; ++g)
      out.data<bf16>()[(r / kernels::panel_rows * s.groups + g) * kernels::panel_rows + r % kernels::panel_rows] =
          to_bf16(q.scales.data<float>()[r * s.groups + g]);
  return out;
}

void fill(Encoded& encoded, PackedMatrix& m, const Tensor& source, const Bitmask& mask) {
  const PackedShape& s = m.shape;
  const auto unit = static_cast<int64_t>(size_of(values_type(m.element)));
  int64_t size = s.panels * s.panel_bytes / unit;
  if (m.layout == PackedLayout::bitmask) {
    Tensor masks = Tensor::empty({s.panels, s.steps, 4, s.mask_bytes}, DType::u8);
    Tensor offsets = Tensor::empty({s.panels + 1}, DType::u64);
    kernels::packed_masks(s, mask.data(), masks.raw());
    kernels::packed_offsets(m.element, s, masks.raw(), offsets.data<uint64_t>());
    size = static_cast<int64_t>(offsets.data<uint64_t>()[s.panels]) / unit + slack_elements(m.element);
    m.masks = masks.raw();
    m.offsets = offsets.data<uint64_t>();
    encoded.arrays["mask"] = masks;
    encoded.arrays["offsets"] = offsets;
  }
  Tensor values = Tensor::empty({size}, values_type(m.element));
  kernels::packed_fill(m, source.raw(), values.raw());
  encoded.arrays["values"] = values;
}

// `source`: bf16 or i8 [rows, cols], what packed_fill() takes.
std::shared_ptr<Weight> pack(PackedElement element, const PackedShape& shape, Tensor source, const Bitmask& mask,
                             Tensor scales) {
  PackedMatrix m{PackedLayout::panels, element, shape};
  Encoded encoded;
  if (mask) {
    if (!mask.fits(shape.rows, shape.cols)) throw internal_error("a mask does not fit its matrix");
    if (bitmask_is_smaller(element, static_cast<double>(mask.count()) / static_cast<double>(shape.rows * shape.cols))) {
      m.layout = PackedLayout::bitmask;
    } else {
      source = source.dtype() == DType::i8 ? masked<int8_t>(source, mask) : masked<bf16>(source, mask);
      encoded.arrays["kept"] = mask.bits().clone();
    }
  }
  encoded.form = layouts[static_cast<size_t>(m.layout)];
  encoded.element = kernels::info_of(element).name;
  encoded.shape = {shape.rows, shape.cols};
  if (scales) {
    encoded.attributes["group"] = shape.group;
    encoded.arrays["scales"] = scales;
  }
  fill(encoded, m, source, mask);
  return std::make_shared<PackedWeight>(encoded, "packed weight");
}

}  // namespace

// It costs one bit an element, and what a tile of 64 leaves of its last byte where codes are shorter: half of the most
// that can be left.
bool bitmask_is_smaller(PackedElement e, double kept) {
  const double bits = kernels::info_of(e).bits, left = std::max(0.0, 8 - bits) / 2;
  return kept * bits + 1 + left / 64 < bits;
}

PackedWeight::PackedWeight(const Encoded& encoded, const std::string& where)
    : encoded_(aligned(encoded)),
      stored_bits_(activation_bits_of(encoded_, where)),
      matrix_(bind_arrays(encoded_, where)) {
  matrix_.rounding.bits = stored_bits_;
}

void PackedWeight::set_rounding(const kernels::ActivationRounding& rounding) {
  matrix_.rounding = rounding;
  if (!rounding.bits) matrix_.rounding.bits = stored_bits_;
}

int PackedWeight::activation_bits() const {
  return kernels::is_integer_element(encoded_.element) ? matrix_.rounding.integer_bits() : 16;
}

void PackedWeight::matmul(kernels::ConstView x, kernels::View y) const {
  kernels::packed_matmul(matrix_, x, y);
}

void PackedWeight::gather(std::span<const int32_t> ids, kernels::View out) const {
  kernels::packed_gather(matrix_, ids, out);
}

Tensor PackedWeight::to_dense() const {
  Tensor out = Tensor::empty({rows(), cols()});
  std::vector<int32_t> ids(static_cast<size_t>(rows()));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  gather(ids, out.view());
  return out;
}

Bitmask PackedWeight::mask() const {
  if (matrix_.layout == PackedLayout::panels) {
    const auto kept = encoded_.arrays.find("kept");
    return kept == encoded_.arrays.end() ? Bitmask() : Bitmask(kept->second, rows(), cols());
  }
  const Bitmask mask = Bitmask::zeros(rows(), cols());
  kernels::packed_mask_bits(matrix_.shape, matrix_.masks, mask.data());
  return mask;
}

int64_t PackedWeight::stored_bytes() const {
  return hone::stored_bytes(encoded_);
}

int64_t PackedWeight::nonzeros() const {
  return kernels::packed_nonzeros(matrix_);
}

int64_t PackedWeight::pruned() const {
  if (matrix_.layout == PackedLayout::bitmask) return rows() * cols() - kernels::packed_kept(matrix_);
  const Bitmask kept = mask();
  return kept ? kept.left_out() : 0;
}

std::shared_ptr<Weight> pack_integers(const QuantizedMatrix& q) {
  const kernels::ElementInfo& info = kernels::info_of(q.element);
  if (!info.scaled || q.integers.dtype() != DType::i8 || q.integers.size() != q.rows * q.cols)
    throw internal_error("the integers of a quantized matrix do not fit it");
  std::array<bool, 256> coded{};
  for (int v = -128; v < 128; ++v) coded[static_cast<size_t>(v + 128)] = info.code_of(v) >= 0;
  for (int8_t v : q.integers.span<int8_t>())
    if (!coded[static_cast<size_t>(v + 128)]) throw internal_error("{} has no code for {}", info.name, v);
  const PackedShape shape = kernels::packed_shape(q.element, q.rows, q.cols, q.group);
  return pack(q.element, shape, q.integers, q.mask, panel_scales(q, shape));
}

std::shared_ptr<Weight> pack_numbers(kernels::PackedElement element, const Tensor& dense, const Bitmask& mask) {
  const kernels::ElementInfo& info = kernels::info_of(element);
  if (dense.shape().size() != 2 || info.scaled)
    throw internal_error("numbers of {} are packed of a matrix, not of {}", info.name, to_string(dense.shape()));
  const PackedShape shape = kernels::packed_shape(element, dense.dim(0), dense.dim(1), 0);
  const Tensor source = Tensor::empty(dense.shape(), info.bits > 8 ? DType::bf16 : DType::i8);
  const Tensor values = dense.to(DType::f32);
  kernels::nearest_codes(element, values.span<float>(), source.raw());
  return pack(element, shape, source, mask, {});
}

std::shared_ptr<Weight> pack_bf16(const Tensor& dense, const Bitmask& mask) {
  return pack_numbers(kernels::element_named("bf16"), dense, mask);
}

std::shared_ptr<Weight> decode_packed(const Encoded& encoded, const std::string& where) {
  return std::make_shared<PackedWeight>(encoded, where);
}

}  // namespace hone
