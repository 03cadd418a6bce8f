#include "base/units.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/spelling.h"

namespace hone {
namespace {

struct Unit {
  std::string_view name;
  double scale;
};

constexpr std::array<Unit, 9> prefixes = {{{"", 1},
                                           {"k", 1e3},
                                           {"m", 1e6},
                                           {"g", 1e9},
                                           {"t", 1e12},
                                           {"ki", 0x1p10},
                                           {"mi", 0x1p20},
                                           {"gi", 0x1p30},
                                           {"ti", 0x1p40}}};

// The scale of a unit, or 0 for letters that are none.
double scale_of(std::string_view letters, bool bytes, bool percent) {
  if (percent && letters == "%") return 0.01;
  std::string name = lower_case(letters);
  if (bytes && name.ends_with('b')) name.pop_back();
  for (const Unit& unit : prefixes)
    if (unit.name == name) return unit.scale;
  return 0;
}

bool is_letter(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0;
}

struct Number {
  double value = 0;
  std::string_view unit;
  size_t length = 0;  // of number and unit; 0 if there is no number
};

// "inf" and "nan", which from_chars would take, are not numbers that a person wants here.
Number split(std::string_view text) {
  Number number;
  const size_t digit = text.starts_with('-') ? 1 : 0;
  if (digit >= text.size() || (text[digit] != '.' && !std::isdigit(static_cast<unsigned char>(text[digit]))))
    return number;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number.value);
  if (error != std::errc()) return number;
  size_t stop = static_cast<size_t>(end - text.data());
  const size_t start = stop;
  while (stop < text.size() && is_letter(text[stop])) ++stop;
  if (stop == start && stop < text.size() && text[stop] == '%') ++stop;
  number.unit = text.substr(start, stop - start);
  number.length = stop;
  return number;
}

// A number as it is written, but too large for a double (or too near to 0).
bool beyond_double(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc::result_out_of_range && end == text.data() + text.size();
}

Error out_of_range(std::string_view text, std::string_view kind) {
  return usage_error("'{}' is out of range: a {} is 0 or more and below 2^63", text, kind);
}

int64_t parse_whole(std::string_view text, bool bytes, std::string_view kind, std::string_view examples) {
  int64_t exact = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), exact);
  const bool digits_only = error == std::errc() && end == text.data() + text.size();
  if (digits_only && exact >= 0) return exact;  // beyond 2^53 a double would round it
  const Number number = split(text);
  const double scale = scale_of(number.unit, bytes, false);
  if (number.length == 0 && beyond_double(text)) throw out_of_range(text, kind);
  if (number.length == 0 || number.length != text.size() || scale == 0)
    throw usage_error("'{}' is not a {}; give one such as {}", text, kind, examples);
  const double value = number.value * scale;
  if (value < 0 || value >= 0x1p63) throw out_of_range(text, kind);
  // 1.1M is 1100000.0000000002 in binary: what lies within rounding of a whole number is meant as one.
  const double whole = std::round(value);
  if (std::abs(value - whole) > 1e-9 * std::max(1.0, value))
    throw usage_error("'{}' is {}, not a whole number; give one such as {}", text, value, examples);
  return static_cast<int64_t>(whole);
}

std::string three_digits(double value, bool whole) {
  const double size = std::abs(value);
  const int decimals = whole || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f}", value, decimals);
}

constexpr std::array<std::string_view, 6> letters = {"", "k", "M", "G", "T", "P"};

// The power of 1000 that leaves at least 1 before the point, after rounding.
size_t power_of(double value) {
  size_t power = 0;
  for (value = std::abs(value); power + 1 < letters.size() && value >= 999.5; ++power) value /= 1000;
  return power;
}

// `value` with the largest prefix that leaves at least 1 before the point, after rounding.
std::string scaled(double value, std::string_view separator, std::string_view unit) {
  if (!std::isfinite(value)) return fmt::format("{}{}{}", value, separator, unit);
  const size_t power = power_of(value);
  value /= std::pow(1000.0, static_cast<double>(power));
  const bool whole = power == 0 && value == std::floor(value);
  return fmt::format("{}{}{}{}", three_digits(value, whole), separator, letters[power], unit);
}

}  // namespace

int64_t parse_count(std::string_view text) {
  return parse_whole(text, false, "count", "2000, 3k or 10M");
}

int64_t parse_bytes(std::string_view text) {
  return parse_whole(text, true, "number of bytes", "4MiB, 1.5GB or 4096");
}

std::string format_percent(double fraction, int digits) {
  std::string text = fmt::format("{:.{}f}", fraction * 100, digits);
  // Compared as the decimal number that is shown: 0.29 * 100 is a little less than 29.
  const double shown = std::strtod(text.c_str(), nullptr);
  if (std::abs(shown / 100) > std::abs(fraction))
    text = fmt::format("{:.{}f}", shown - std::copysign(std::pow(10.0, -digits), fraction), digits);
  return text + "%";
}

double parse_fraction(std::string_view text) {
  const Number number = split(text);
  const bool percent = number.unit == "%";
  const auto outside = [&] {
    return usage_error("'{}' is out of range: a fraction is from 0 to 1, or from 0% to 100%", text);
  };
  if (number.length == 0 && beyond_double(text.ends_with('%') ? text.substr(0, text.size() - 1) : text))
    throw outside();
  if (number.length == 0 || number.length != text.size() || !(percent || number.unit.empty()))
    throw usage_error("'{}' is not a fraction; give one such as 0.2 or 20%", text);
  const double value = percent ? number.value / 100 : number.value;
  if (value < 0 || value > 1) throw outside();
  return value;
}

double parse_number(std::string_view text) {
  const Number number = split(text);
  if (number.length == 0 && beyond_double(text)) throw usage_error("'{}' is out of range of a number", text);
  if (number.length == 0 || number.length != text.size() || !number.unit.empty())
    throw usage_error("'{}' is not a number; give one such as 0.5 or 3e-4", text);
  return number.value;
}

uint64_t parse_seed(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = end == text.data() + text.size();
  if (error == std::errc::result_out_of_range && whole)
    throw usage_error("'{}' is too large: a seed is at most 2^64 - 1", text);
  if (error != std::errc() || !whole)
    throw usage_error("'{}' is not a seed; give a whole number from 0 to 2^64 - 1", text);
  return value;
}

double parse_leading_number(std::string_view text, size_t& length) {
  const Number number = split(text);
  if (number.length == 0) throw usage_error("'{}' does not start with a number", text);
  const double scale = scale_of(number.unit, true, true);
  if (scale == 0)
    throw usage_error("'{}': '{}' is not a unit; use k, M, G, T, Ki, Mi, Gi, Ti (with B for bytes) or %",
                      text.substr(0, number.length), number.unit);
  length = number.length;
  return number.unit == "%" ? number.value / 100 : number.value * scale;
}

std::string format_count(double value) {
  return scaled(value, "", "");
}

std::string format_bytes(double bytes) {
  return scaled(bytes, " ", "B");
}

UnitPrefix common_prefix(std::span<const double> values) {
  size_t least = letters.size(), most = 0;
  for (const double value : values) {
    if (!std::isfinite(value) || value == 0) continue;
    least = std::min(least, power_of(value));
    most = std::max(most, power_of(value));
  }
  if (least == letters.size()) return {};
  least = std::max(least, most > 3 ? most - 3 : 0);
  return {std::pow(1000.0, static_cast<double>(least)), letters[least]};
}

std::string format_with(double value, UnitPrefix prefix, std::string_view unit) {
  const std::string_view gap = unit.empty() ? "" : " ";
  if (!std::isfinite(value)) return fmt::format("{}{}{}", value, gap, unit);
  const double scaled_value = value / prefix.scale;
  const bool whole = scaled_value == 0 || (prefix.scale == 1 && value == std::floor(value));
  std::string digits = three_digits(scaled_value, whole);
  for (size_t at = std::min(digits.find('.'), digits.size()); at > (digits.starts_with('-') ? 4u : 3u);)
    digits.insert(at -= 3, 1, ',');
  return fmt::format("{}{}{}{}", digits, gap, prefix.letter, unit);
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds)) return fmt::format("{}", seconds);
  if (seconds < 0) return fmt::format("-{}", format_duration(-seconds));
  if (seconds < 0.9995e-3) return fmt::format("{}us", three_digits(seconds * 1e6, false));
  if (seconds < 0.9995) return fmt::format("{}ms", three_digits(seconds * 1e3, false));
  if (seconds < 59.95) return fmt::format("{:.1f}s", seconds);
  const auto whole = static_cast<int64_t>(std::round(std::min(seconds, 1e15)));
  if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  const int64_t minutes = (whole + 30) / 60;
  if (minutes < 24 * 60) return fmt::format("{}h{:02}m", minutes / 60, minutes % 60);
  const int64_t hours = (minutes + 30) / 60;
  return fmt::format("{}d{:02}h", hours / 24, hours % 24);
}

std::string format_rate(double per_second, std::string_view unit) {
  if (unit == "B") return format_bytes(per_second) + "/s";
  return fmt::format("{} {}/s", format_count(per_second), unit);
}

}  // namespace hone
