// Numbers with units as a person types them (`10M`, `4MiB`, `20%`) and as a person reads them (`10.7M`, `4.2 MB`,
// `3m12s`).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace hone {

// All of these take the whole text or throw Error(usage) quoting it. Letters may be of either case. k, M, G and T are
// powers of 1000; Ki, Mi, Gi and Ti powers of 1024.
int64_t parse_count(std::string_view text);  // "2000", "3k", "10M", "1.5M", "64Ki"; a whole number, 0 or more
int64_t parse_bytes(std::string_view text);  // the same, with or without a final B: "4MiB", "1.5GB", "512"
// "60.0%": cut after the digits, not rounded, so that what is below a bound is not shown as the bound.
std::string format_percent(double fraction, int digits);
double parse_fraction(std::string_view text);  // "0.2" or "20%"; from 0 to 1
double parse_number(std::string_view text);    // "0.5", "3e-4", "-1"; finite, without a unit
uint64_t parse_seed(std::string_view text);    // a whole number from 0 to 2^64 - 1, without a unit

// The number at the front of `text` with its unit, if it has one (any of the above, or %): the value, and in `length`
// how many characters it takes. Throws Error(usage) where there is no number or the letters after it are no unit.
double parse_leading_number(std::string_view text, size_t& length);

// Three significant digits where a unit is needed, whole numbers below 1000.
std::string format_count(double value);  // "812", "10.7M", "1.20k"
std::string format_bytes(double bytes);  // "812 B", "4.20 MB": powers of 1000, as file listings of models are
// One unit for all values of a column: that of the smallest, so that none loses its digits, but at most three steps of
// 1000 below the largest. Values that are 0 or not finite have no say.
struct UnitPrefix {
  double scale = 1;
  std::string_view letter = "";  // "", "k", "M", …
};
UnitPrefix common_prefix(std::span<const double> values);
std::string format_with(double value, UnitPrefix prefix, std::string_view unit);  // "1.54 kB", "5,820 kB"; "98.3k"

std::string format_duration(double seconds);  // "85.0ms", "4.2s", "3m12s", "2h05m", "3d04h"
std::string format_rate(
    double per_second,
    std::string_view unit);  // (12340, "tokens") -> "12.3k tokens/s"; bytes: (4.7e10, "B") -> "47.0 GB/s"

}  // namespace hone
