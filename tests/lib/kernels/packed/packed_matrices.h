// Packed matrices of every form with the same numbers unpacked, and the plain product as a reference.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/random.h"
#include "kernels/packed/packed.h"
#include "kernels/parallel.h"
#include "lib/kernels/numbers.h"
#include "support/elements.h"
#include "support/isa.h"

namespace hone::kernels::test {

inline constexpr PackedElement int8 = element_named("int8"), int4 = element_named("int4");

inline bool is_scaled(PackedElement element) {
  return info_of(element).scaled;
}

// Activations that meet it become integers where they may.
inline bool meets_integers(PackedElement element) {
  return info_of(element).arithmetic == Arithmetic::integer;
}

// A matrix with its arrays, and the same numbers unpacked.
struct Packed {
  PackedMatrix w;
  std::vector<uint64_t> values, masks, offsets;  // uint64_t for the alignment
  std::vector<bf16> scales;
  std::vector<float> dense;  // [rows, cols]
};

inline ActivationRounding rounding_of_made;  // of the matrices that make() makes

inline Packed make(PackedLayout layout, PackedElement element, int64_t rows, int64_t cols, int64_t group) {
  Random random(static_cast<uint64_t>(rows * 4096 + cols), "matrix");
  Packed p;
  p.w = {layout, element, packed_shape(element, rows, cols, group)};
  p.w.rounding = rounding_of_made;
  const PackedShape& s = p.w.shape;
  const auto n = static_cast<size_t>(rows * cols);
  std::vector<int8_t> integers(n);
  std::vector<bf16> halves(n);
  for (size_t i = 0; i < n; ++i) {
    if (is_scaled(element)) integers[i] = hone::test::random_integer(element, random);
    halves[i] = to_bf16(static_cast<float>(random.normal()));
  }
  p.scales.resize(static_cast<size_t>(s.panels * s.groups * panel_rows));
  for (auto& x : p.scales) x = to_bf16(static_cast<float>(0.01 + random.uniform()));
  std::vector<uint8_t> bits(static_cast<size_t>(rows * ((cols + 7) / 8)));
  for (auto& b : bits) b = static_cast<uint8_t>(random.next() & random.next());
  auto bytes = s.panels * s.panel_bytes;
  if (layout == PackedLayout::bitmask) {
    p.masks.resize(static_cast<size_t>(s.tiles() * s.mask_bytes / 8));
    p.offsets.resize(static_cast<size_t>(s.panels + 1));
    packed_masks(s, bits.data(), p.masks.data());
    CHECK(packed_offsets(element, s, p.masks.data(), p.offsets.data()));
    bytes = static_cast<int64_t>(p.offsets.back()) + packed_slack;
  }
  p.values.resize(static_cast<size_t>(bytes + 7) / 8);
  p.w.masks = p.masks.data();
  p.w.offsets = p.offsets.data();
  p.w.scales = p.scales.data();
  packed_fill(p.w, is_scaled(element) ? static_cast<void*>(integers.data()) : halves.data(), p.values.data());
  p.w.values = p.values.data();
  p.dense.assign(n, 0);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      const auto i = static_cast<size_t>(r * cols + c);
      if (layout == PackedLayout::bitmask && !(bits[static_cast<size_t>(r * ((cols + 7) / 8) + c / 8)] >> (c % 8) & 1))
        continue;
      const auto scale = static_cast<size_t>((r / 64 * s.groups + (group ? c / group : 0)) * 64 + r % 64);
      p.dense[i] = is_scaled(element) ? info_of(element).number_of(integers[i]) * to_float(p.scales[scale])
                                      : to_float(halves[i]);
    }
  return p;
}

// The integer of the largest byte or the largest size, whichever is a harder test of sums: at the end of the table.
inline int largest(PackedElement element) {
  const ElementInfo& info = info_of(element);
  return info.highest < -info.lowest ? info.lowest : info.highest;
}

inline std::vector<float> random_rows(int64_t m, int64_t cols) {
  return exact_numbers(m * cols, static_cast<uint64_t>(m));
}

// The plain product, and for each element the size that rounding errors are measured by.
struct Reference {
  std::vector<double> y, size;
};

// With `segment` > 0 the size of a term is that of the largest |x| in its segment: what rounding to integers is
// relative to.
inline Reference reference(const Packed& p, const std::vector<float>& x, int64_t m, int64_t segment) {
  const auto rows = static_cast<size_t>(p.w.shape.rows), cols = static_cast<size_t>(p.w.shape.cols);
  Reference result;
  std::vector<double> sizes(cols);
  for (size_t i = 0; i < static_cast<size_t>(m); ++i) {
    const float* row = x.data() + i * cols;
    for (size_t c = 0; c < cols; ++c) sizes[c] = std::abs(row[c]);
    for (size_t c = 0; segment && c < cols; ++c) {
      const size_t begin = c - c % static_cast<size_t>(segment);
      if (c > begin) sizes[begin] = std::max(sizes[begin], sizes[c]);
    }
    for (size_t c = 0; segment && c < cols; ++c) sizes[c] = sizes[c - c % static_cast<size_t>(segment)];
    for (size_t r = 0; r < rows; ++r) {
      double sum = 0, size = 1e-30;
      for (size_t c = 0; c < cols; ++c) {
        const double w = p.dense[r * cols + c];
        sum += row[c] * w;
        size += sizes[c] * std::abs(w);
      }
      result.y.push_back(sum);
      result.size.push_back(size);
    }
  }
  return result;
}

inline double worst(const Reference& want, const std::vector<float>& y) {
  double result = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double error = std::abs(y[i] - want.y[i]) / want.size[i];
    if (!(error <= result)) result = error;  // a NaN stays
  }
  return result;
}

inline int64_t segment_of(const Packed& p) {
  if (!meets_integers(p.w.element)) return 0;
  return p.w.shape.group ? p.w.shape.group : 128;
}

// Half a step of activations in integers, and what is left for f32 sums.
inline constexpr double integer_tolerance = 0.5 / 32512 + 2e-6, tolerance_8 = 0.5 / 127 + 2e-6;

// Whether rows in this type go straight through the packed bytes.
inline bool is_direct(const Packed& p, int64_t m, DType x = DType::f32) {
  return m <= packed_direct_rows(p.w, x);
}

struct Level {
  explicit Level(Isa level) { set_isa(level); }
  ~Level() { set_isa(isa_levels().back()); }
};

// What is made while one lives rounds activations so.
struct MadeRounding {
  explicit MadeRounding(F32Activations how, int bits = 16) { rounding_of_made = {how, bits}; }
  ~MadeRounding() { rounding_of_made = {}; }
};

struct Threads {
  explicit Threads(int count) : before(threads()) { set_threads(count); }
  ~Threads() { set_threads(before); }
  int before;
};

// f(layout, element, group) of every form.
template <class F>
void for_forms(F&& f) {
  for (const auto layout : {PackedLayout::panels, PackedLayout::bitmask})
    for (const PackedElement element : all_elements)
      for (const int64_t group : {0, 32, 64, 128})
        if (group == 0 || is_scaled(element)) f(layout, element, group);
}

inline std::vector<float> multiply(const Packed& p, const std::vector<float>& x, int64_t m) {
  std::vector<float> y(static_cast<size_t>(m * p.w.shape.rows), std::nanf(""));
  packed_matmul(p.w, view(x.data(), m, p.w.shape.cols), view(y.data(), m, p.w.shape.rows));
  return y;
}

}  // namespace hone::kernels::test
