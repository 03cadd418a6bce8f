// The elements of packed weights, a row each: all that the program knows of an element beside the file that unpacks it,
// isa/packed/elements/NAME.cpp. A new element is such a file and a row; what lists elements reads this table.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/find_row.h"
#include "kernels/panel.h"

namespace hone::kernels {

// How an element meets activations.
enum class Arithmetic : uint8_t {
  halves,  // as a bf16 number, which has all of its numbers: two columns in a 32-bit lane of the dot products
  integer  // as an integer of 8 bits: four columns in a lane
};

// What a code stands for: an integer q, which names a number.
enum class Codes : uint8_t {
  offset,   // code - zero; the number is q
  table,    // values[code]; the number is q
  floating  // a sign, then the exponent and mantissa of a number as IEEE 754 has them: q is both as one integer
};

// An element is stored as codes of some bits. The weight is its number, times a scale where the element is `scaled`. Of
// arithmetic `integer` a source unpacks codes to bytes q + offset(), the unsigned operand of the 8-bit dot products.
struct ElementInfo {
  std::string_view name;  // in files, options and reports
  Arithmetic arithmetic;
  bool scaled;
  int bits;  // of a code; codes lie as in a stream of bits, the lowest of a byte first
  Codes codes_are;
  int zero;               // the code of 0
  int lowest, highest;    // least and largest q
  const int8_t* values;   // of Codes::table, ascending
  int mantissa, bias;     // of Codes::floating: bits behind the point, and what the exponent is more than it means
  std::string_view what;  // for people, after the name

  constexpr int lane() const { return arithmetic == Arithmetic::integer ? 4 : 2; }
  // Codes are bf16 numbers as they lie in memory: packed panels are panels of the dense product.
  constexpr bool is_bf16() const { return arithmetic == Arithmetic::halves && bits == 16; }
  // Columns are padded to a multiple of this.
  constexpr int column_unit() const { return is_bf16() ? static_cast<int>(half_columns) : 4; }
  constexpr int codes() const { return 1 << bits; }
  // The bit of a code that makes no difference to 0, else 0.
  constexpr unsigned sign() const { return codes_are == Codes::floating ? 1u << (bits - 1) : 0u; }

  constexpr int integer_of(int code) const {
    if (codes_are == Codes::table) return values[code];
    if (codes_are == Codes::offset) return code - zero;
    const int size = code & ~static_cast<int>(sign());
    return size == code ? size : -size;
  }
  // -1: no code stands for q.
  constexpr int code_of(int q) const {
    if (codes_are != Codes::table && (q < lowest || q > highest)) return -1;
    if (codes_are == Codes::offset) return q + zero;
    if (codes_are == Codes::floating) return q < 0 ? static_cast<int>(sign()) - q : q;
    for (int code = 0; code < codes(); ++code)
      if (values[code] == q) return code;
    return -1;
  }
  constexpr float number_of(int q) const {
    if (codes_are != Codes::floating) return static_cast<float>(q);
    const uint32_t size = static_cast<uint32_t>(q < 0 ? -q : q), exponent = size >> mantissa;
    // Without an exponent the number is size times the least; one with f32's own bias is f32's own, cut short.
    const uint32_t bits32 = (size << (23 - mantissa)) + (static_cast<uint32_t>(127 - bias) << 23);
    const float number =
        exponent > 0 || bias == 127 ? std::bit_cast<float>(bits32) : static_cast<float>(size) * least();
    return q < 0 ? -number : number;
  }
  // Of Codes::floating: the least number above 0, and the least whose mantissa has all its bits.
  constexpr float least() const { return std::bit_cast<float>(static_cast<uint32_t>(128 - bias - mantissa) << 23); }
  constexpr float least_normal() const { return std::bit_cast<float>(static_cast<uint32_t>(128 - bias) << 23); }
  constexpr int offset() const { return codes_are == Codes::table ? 128 : zero; }
};

// NormalFloat of QLoRA (arXiv 2305.14314, appendix E), in 127ths: the quantiles of the normal distribution at 8 places
// from 1 - (1/32 + 1/30) / 2 down to 1/2, without 1/2, and at 7 on the other side, with 0 between them, divided by the
// largest. Rounding to 127ths moves a value by at most 0.0037, a twentieth of the least step, and an error of normal
// weights by less than a hundredth.
inline constexpr int8_t nf4_values[16] = {-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127};

inline constexpr ElementInfo element_table[] = {
    {"bf16", Arithmetic::halves, false, 16, Codes::floating, 0, -0x7f7f, 0x7f7f, nullptr, 7, 127, "rounded to 16 bits"},
    {"int8", Arithmetic::integer, true, 8, Codes::offset, 128, -127, 127, nullptr, 0, 0,
     "integers of 8 bits, symmetric"},
    // E4M3 (Micikevicius et al., arXiv 2209.05433), without its NaN.
    {"fp8", Arithmetic::halves, true, 8, Codes::floating, 0, -126, 126, nullptr, 3, 7,
     "numbers of 8 bits with 4 of an exponent"},
    {"int4", Arithmetic::integer, true, 4, Codes::offset, 8, -8, 7, nullptr, 0, 0, "integers of 4 bits"},
    {"nf4", Arithmetic::integer, true, 4, Codes::table, 7, -127, 127, nf4_values, 0, 0,
     "16 steps as the normal distribution has them"},
    {"int3", Arithmetic::integer, true, 3, Codes::offset, 4, -4, 3, nullptr, 0, 0, "integers of 3 bits"},
    {"int2", Arithmetic::integer, true, 2, Codes::offset, 2, -2, 1, nullptr, 0, 0, "integers of 2 bits"},
    {"ternary", Arithmetic::integer, true, 2, Codes::offset, 1, -1, 1, nullptr, 0, 0, "-1, 0 and 1, in 2 bits"},
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
  return find_row<PackedElement>(element_table, name);
}
// Whether an element of this name meets activations as integers; of other names, "f32" among them, none does.
constexpr bool is_integer_element(std::string_view name) {
  const std::optional<PackedElement> element = find_element(name);
  return element && info_of(*element).arithmetic == Arithmetic::integer;
}
consteval PackedElement element_named(std::string_view name) {
  return row_named<PackedElement>(element_table, name);
}

}  // namespace hone::kernels
