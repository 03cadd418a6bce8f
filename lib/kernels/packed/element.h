// The elements of packed weights, a row each: all that the program knows of an element beside the file that unpacks it,
// isa/packed/elements/NAME.cpp. A new element is such a file and a row; what lists elements reads this table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/panel.h"

namespace hone::kernels {

// How an element meets activations.
enum class Arithmetic : uint8_t {
  bf16,    // the element is a bf16 number: two columns in a 32-bit lane of the dot products
  integer  // an integer of 8 bits times a scale: four columns in a lane
};

// An element is stored as a code of some bits. Of arithmetic `integer` a code stands for an integer q, and the weight
// is q * scale; a source unpacks codes to bytes q + offset(), the unsigned operand of the 8-bit dot products.
struct ElementInfo {
  std::string_view name;  // in files, options and reports
  Arithmetic arithmetic;
  int bits;               // of a code; codes lie as in a stream of bits, the lowest of a byte first
  int zero;               // the code of 0
  int lowest, highest;    // least and largest q
  bool in_table;          // a code stands for values[code], else for code - zero
  const int8_t* values;   // ascending; null where there is no table
  std::string_view what;  // for people, after the name

  constexpr bool scaled() const { return arithmetic == Arithmetic::integer; }
  constexpr int lane() const { return scaled() ? 4 : 2; }
  // Columns are padded to a multiple of this.
  constexpr int column_unit() const { return scaled() ? 4 : static_cast<int>(half_columns); }
  constexpr int codes() const { return 1 << bits; }
  constexpr int integer_of(int code) const { return in_table ? values[code] : code - zero; }
  // -1: no code stands for q.
  constexpr int code_of(int q) const {
    if (!in_table) return q < lowest || q > highest ? -1 : q + zero;
    for (int code = 0; code < codes(); ++code)
      if (values[code] == q) return code;
    return -1;
  }
  constexpr int offset() const { return in_table ? 128 : zero; }
};

// NormalFloat of QLoRA (arXiv 2305.14314, appendix E), in 127ths: the quantiles of the normal distribution at 8 places
// from 1 - (1/32 + 1/30) / 2 down to 1/2, without 1/2, and at 7 on the other side, with 0 between them, divided by the
// largest. Rounding to 127ths moves a value by at most 0.0037, a twentieth of the least step, and an error of normal
// weights by less than a hundredth.
inline constexpr int8_t nf4_values[16] = {-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127};

inline constexpr ElementInfo element_table[] = {
    {"bf16", Arithmetic::bf16, 16, 0, 0, 0, false, nullptr, "rounded to 16 bits"},
    {"int8", Arithmetic::integer, 8, 128, -127, 127, false, nullptr, "integers of 8 bits, symmetric"},
    {"int4", Arithmetic::integer, 4, 8, -8, 7, false, nullptr, "integers of 4 bits"},
    {"nf4", Arithmetic::integer, 4, 7, -127, 127, true, nf4_values, "16 steps as the normal distribution has them"},
    {"int3", Arithmetic::integer, 3, 4, -4, 3, false, nullptr, "integers of 3 bits"},
    {"int2", Arithmetic::integer, 2, 2, -2, 1, false, nullptr, "integers of 2 bits"},
    {"ternary", Arithmetic::integer, 2, 1, -1, 1, false, nullptr, "-1, 0 and 1, in 2 bits"},
};

inline constexpr size_t element_count = std::size(element_table);

// An index into the table, made only by what follows.
enum class PackedElement : uint8_t {};

// In an instruction set's files only as a constant: an inline function that is called there would be merged with the
// copy of the rest of the program.
constexpr const ElementInfo& info_of(PackedElement element) {
  return element_table[static_cast<size_t>(element)];
}

// Every element, in the order of the table.
inline constexpr std::array<PackedElement, element_count> all_elements = [] {
  std::array<PackedElement, element_count> all{};
  for (size_t i = 0; i < element_count; ++i) all[i] = static_cast<PackedElement>(i);
  return all;
}();

constexpr std::optional<PackedElement> find_element(std::string_view name) {
  for (const PackedElement element : all_elements)
    if (info_of(element).name == name) return element;
  return std::nullopt;
}

// The element of a name that the program itself says: one that is not in the table does not compile.
consteval PackedElement element_named(std::string_view name) {
  return find_element(name).value();
}

}  // namespace hone::kernels
