#include "weights/part.h"

#include <cstring>
#include <numeric>

#include "base/error.h"
#include "weights/computed_weight.h"
#include "weights/dense_weight.h"
#include "weights/packed_weight.h"

namespace hone {

RankPart Share::part(RankPart::Of of, std::initializer_list<int64_t> whole) const {
  if (count == 1) return {};
  RankPart part{of, index, count};
  for (const int64_t size : whole) {
    if (size % count != 0) throw internal_error("{} do not divide into {} parts", size, count);
    part.stretches.push_back(size / count);
  }
  return part;
}

RankPart Share::thing(int64_t i, int64_t things) const {
  if (count == 1) return {};
  if (things % count != 0) throw internal_error("{} do not divide into {} parts", things, count);
  RankPart part{RankPart::Of::whole, index, count};
  part.holder = static_cast<int>(i / of(things));
  if (part.holder != index) part.of = RankPart::Of::nothing;
  return part;
}

std::vector<PartRange> ranges_of(const RankPart& part) {
  std::vector<PartRange> ranges;
  int64_t before = 0;
  for (const int64_t size : part.stretches) {
    ranges.push_back({part.count * before + part.index * size, before, size});
    before += size;
  }
  return ranges;
}

namespace {

size_t divided_dimension(const RankPart& part) {
  return part.of == RankPart::Of::columns ? 1 : 0;
}

// Calls f(bytes of the whole, of the part, how many) for what lies together in both.
template <class F>
void for_each_run(const RankPart& part, const Tensor& whole, int64_t part_cols, F&& f) {
  const int64_t cols = whole.shape().size() > 1 ? whole.dim(1) : 1;
  const auto size = static_cast<int64_t>(size_of(whole.dtype()));
  for (const PartRange& range : ranges_of(part)) {
    if (part.of == RankPart::Of::rows) {
      f(range.whole * cols * size, range.part * cols * size, range.count * cols * size);
      continue;
    }
    for (int64_t r = 0; r < whole.dim(0); ++r)
      f((r * cols + range.whole) * size, (r * part_cols + range.part) * size, range.count * size);
  }
}

}  // namespace

Shape whole_shape(const RankPart& part, Shape shape) {
  if (part.divided()) shape[divided_dimension(part)] *= part.count;
  return shape;
}

Shape part_shape(const RankPart& part, Shape whole) {
  if (part.divided()) whole[divided_dimension(part)] /= part.count;
  return whole;
}

Tensor take_part(const Tensor& whole, const RankPart& part) {
  if (!part.here()) return Tensor::promised(whole.shape(), whole.dtype());
  if (!part.divided()) return whole.clone();
  const Tensor elements = Tensor::empty(part_shape(part, whole.shape()), whole.dtype());
  for_each_run(part, whole, elements.shape().back(), [&](int64_t from, int64_t to, int64_t bytes) {
    std::memcpy(elements.raw() + to, whole.raw() + from, static_cast<size_t>(bytes));
  });
  return elements;
}

void put_part(const Tensor& elements, const RankPart& part, const Tensor& whole) {
  if (!part.divided()) {
    std::memcpy(whole.raw(), elements.raw(), whole.bytes());
    return;
  }
  for_each_run(part, whole, elements.shape().back(), [&](int64_t to, int64_t from, int64_t bytes) {
    std::memcpy(whole.raw() + to, elements.raw() + from, static_cast<size_t>(bytes));
  });
}

namespace {

// Calls f(row, column of the whole, row, column of the part) for each element of the part.
template <class F>
void for_each_bit(const RankPart& part, int64_t rows, int64_t cols, F&& f) {
  for (const PartRange& range : ranges_of(part)) {
    const bool by_row = part.of == RankPart::Of::rows;
    for (int64_t i = 0; i < range.count; ++i)
      for (int64_t j = 0; j < (by_row ? cols : rows); ++j) {
        const int64_t whole = range.whole + i, own = range.part + i;
        by_row ? f(whole, j, own, j) : f(j, whole, j, own);
      }
  }
}

}  // namespace

Bitmask take_part(const Bitmask& whole, const RankPart& part) {
  if (!whole || !part.divided()) return whole;
  const Shape shape = part_shape(part, {whole.rows(), whole.cols()});
  const Bitmask bits = Bitmask::zeros(shape[0], shape[1]);
  for_each_bit(part, whole.rows(), whole.cols(), [&](int64_t r, int64_t c, int64_t own_r, int64_t own_c) {
    if (whole.at(r, c)) bits.set(own_r, own_c);
  });
  return bits;
}

void put_part(const Bitmask& bits, const RankPart& part, const Bitmask& whole) {
  for_each_bit(part, whole.rows(), whole.cols(), [&](int64_t r, int64_t c, int64_t own_r, int64_t own_c) {
    if (bits.at(own_r, own_c)) whole.set(r, c);
  });
}

namespace {

std::shared_ptr<Weight> part_of_integers(const QuantizedMatrix& whole, const RankPart& part, const std::string& where) {
  QuantizedMatrix own = whole;
  const Shape shape = part_shape(part, {whole.rows, whole.cols});
  own.rows = shape[0];
  own.cols = shape[1];
  own.integers = take_part(whole.integers, part);
  own.mask = take_part(whole.mask, part);
  if (part.of == RankPart::Of::rows) {
    own.scales = take_part(whole.scales, part);
  } else if (whole.group > 0) {
    RankPart groups = part;
    for (int64_t& stretch : groups.stretches) {
      if (stretch % whole.group != 0)
        throw usage_error(
            "{}: {} ranks would each have {} columns, in groups of {} that share a scale; use fewer ranks", where,
            part.count, stretch, whole.group);
      stretch /= whole.group;
    }
    own.scales = take_part(whole.scales, groups);
  }
  return pack_integers(own);
}

}  // namespace

std::shared_ptr<Weight> part_of(const std::shared_ptr<Weight>& whole, const RankPart& part, const std::string& where) {
  if (!part.here()) return std::make_shared<DenseWeight>(Tensor::promised({whole->rows(), whole->cols()}));
  if (!part.divided()) return whole;
  const Bitmask mask = take_part(whole->mask(), part);
  if (whole->trainable()) return std::make_shared<DenseWeight>(take_part(whole->to_dense(), part), mask);
  const auto element = kernels::find_element(whole->element());
  if (element && kernels::info_of(*element).scaled)
    return with_activation_bits_of(*whole, part_of_integers(unpack_integers(*whole), part, where));
  if (!element) throw internal_error("{}: a {} weight has no parts", where, whole->element());
  return pack_numbers(*element, take_part(whole->to_dense(), part), mask);
}

}  // namespace hone
