#include "base/units.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"

using namespace hone;

namespace {

template <class F>
std::string usage_message(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    return error.what();
  }
  return "(nothing was thrown)";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("parse_count takes plain numbers and units of 1000 and 1024") {
  CHECK(parse_count("0") == 0);
  CHECK(parse_count("2000") == 2000);
  CHECK(parse_count("3k") == 3000);
  CHECK(parse_count("3K") == 3000);
  CHECK(parse_count("10M") == 10000000);
  CHECK(parse_count("1.1M") == 1100000);
  CHECK(parse_count("1e6") == 1000000);
  CHECK(parse_count("64Ki") == 65536);
  CHECK(parse_count("2G") == 2000000000);
  CHECK(parse_count("9007199254740993") == 9007199254740993);  // 2^53 + 1
}

TEST_CASE("parse_count refuses what is not a count, quoting it") {
  for (const char* bad : {"",
                          "x",
                          "10X",
                          "10MB",
                          "M",
                          "-5",
                          "1.5",
                          "0.0001k",
                          "10 M",
                          " 5",
                          "5 ",
                          "inf",
                          "nan",
                          "1e30",
                          "--3",
                          "20%",
                          "+3",
                          "0x10",
                          "99999999999999999999",
                          "9223372036854775808"}) {
    CAPTURE(bad);
    CHECK(contains(usage_message([&] { parse_count(bad); }), std::string("'") + bad + "'"));
  }
}

TEST_CASE("what is too large for its type is called so, with the limit") {
  for (const char* large : {"99999999999999999999", "1e30", "1e400", "9000P", "10000000T"}) {
    CAPTURE(large);
    const bool unit = std::string(large).ends_with('P');  // none that is known
    CHECK(contains(usage_message([&] { parse_count(large); }), "below 2^63") != unit);
    CHECK(contains(usage_message([&] { parse_bytes(large); }), "below 2^63") != unit);
  }
  CHECK(contains(usage_message([] { parse_fraction("1e400"); }), "'1e400' is out of range"));
  CHECK(contains(usage_message([] { parse_fraction("1e400%"); }), "'1e400%' is out of range"));
  CHECK(usage_message([] { parse_seed("18446744073709551616"); }) ==
        "'18446744073709551616' is too large: a seed is at most 2^64 - 1");
}

TEST_CASE("parse_bytes takes units with and without B") {
  CHECK(parse_bytes("512") == 512);
  CHECK(parse_bytes("512B") == 512);
  CHECK(parse_bytes("4MiB") == 4 << 20);
  CHECK(parse_bytes("4mib") == 4 << 20);
  CHECK(parse_bytes("4Mi") == 4 << 20);
  CHECK(parse_bytes("1.5GB") == 1500000000);
  CHECK(parse_bytes("2kB") == 2000);
  CHECK(contains(usage_message([] { parse_bytes("4MiBs"); }), "'4MiBs'"));
  CHECK(contains(usage_message([] { parse_bytes("-1MB"); }), "'-1MB'"));
}

TEST_CASE("percentages are cut, so that none looks like a bound that it is below") {
  CHECK(format_percent(0.6, 1) == "60.0%");
  CHECK(format_percent(0.59996, 1) == "59.9%");
  CHECK(format_percent(0.5999999999, 2) == "59.99%");
  CHECK(format_percent(0.29, 1) == "29.0%");
  CHECK(format_percent(0.58, 2) == "58.00%");
  CHECK(format_percent(0.0004, 1) == "0.0%");
  CHECK(format_percent(0, 1) == "0.0%");
  CHECK(format_percent(1, 1) == "100.0%");
  CHECK(format_percent(0.99999, 2) == "99.99%");
}

TEST_CASE("parse_fraction takes 0.2 and 20%") {
  CHECK(parse_fraction("0.2") == 0.2);
  CHECK(parse_fraction(".2") == 0.2);
  CHECK(parse_fraction("20%") == 0.2);
  CHECK(parse_fraction("100%") == 1);
  CHECK(parse_fraction("0") == 0);
  for (const char* bad : {"20", "120%", "-0.1", "1.01", "0.2x", "%", "", "20%%", "0.2k"}) {
    CAPTURE(bad);
    CHECK(contains(usage_message([&] { parse_fraction(bad); }), std::string("'") + bad + "'"));
  }
}

TEST_CASE("parse_leading_number says how far it read") {
  size_t length = 0;
  CHECK(parse_leading_number("4MiB)*2", length) == 4 << 20);
  CHECK(length == 4);
  CHECK(parse_leading_number("98%*baseline", length) == 0.98);
  CHECK(length == 3);
  CHECK(parse_leading_number("1.02*baseline", length) == 1.02);
  CHECK(length == 4);
  CHECK(parse_leading_number("1e-3", length) == 1e-3);
  CHECK(contains(usage_message([&] { parse_leading_number("3zz", length); }), "'zz'"));
  CHECK(contains(usage_message([&] { parse_leading_number("x", length); }), "'x'"));
}

TEST_CASE("numbers for people keep three digits and carry into the next unit") {
  CHECK(format_count(0) == "0");
  CHECK(format_count(812) == "812");
  CHECK(format_count(999) == "999");
  CHECK(format_count(1200) == "1.20k");
  CHECK(format_count(999499) == "999k");
  CHECK(format_count(999500) == "1.00M");
  CHECK(format_count(10.7e6) == "10.7M");
  CHECK(format_count(-1200) == "-1.20k");
  CHECK(format_count(2.345) == "2.35");
  CHECK(format_bytes(812) == "812 B");
  CHECK(format_bytes(4.2e6) == "4.20 MB");
  CHECK(format_bytes(42.7e6) == "42.7 MB");
  CHECK(format_rate(12340, "tokens") == "12.3k tokens/s");
  CHECK(format_rate(4.7e10, "B") == "47.0 GB/s");
  CHECK(format_count(std::numeric_limits<double>::infinity()) == "inf");
}

TEST_CASE("durations read as a person says them") {
  CHECK(format_duration(0.0000123) == "12.3us");
  CHECK(format_duration(0.085) == "85.0ms");
  CHECK(format_duration(4.24) == "4.2s");
  CHECK(format_duration(59.96) == "1m00s");
  CHECK(format_duration(192) == "3m12s");
  CHECK(format_duration(3599.6) == "1h00m");
  CHECK(format_duration(7500) == "2h05m");
  CHECK(format_duration(3 * 86400 + 4 * 3600) == "3d04h");
  CHECK(format_duration(-3) == "-3.0s");
}

TEST_CASE("numbers are finite and without a unit; seeds are whole") {
  CHECK(parse_number("0.5") == 0.5);
  CHECK(parse_number("-3e-4") == -3e-4);
  CHECK(parse_number(".5") == 0.5);
  for (const char* bad : {"", "x", "nan", "inf", "-inf", "1k", "20%", "1e400", "1 ", " 1", "0x10", "1,5", "--1"}) {
    CAPTURE(bad);
    CHECK(contains(usage_message([&] { parse_number(bad); }), fmt::format("'{}'", bad)));
  }
  CHECK(contains(usage_message([] { parse_number("1e400"); }), "out of range"));
  CHECK(parse_seed("0") == 0);
  CHECK(parse_seed("18446744073709551615") == std::numeric_limits<uint64_t>::max());
  for (const char* bad : {"", "-1", "18446744073709551616", "1.5", "1e3", "x", "+1"}) {
    CAPTURE(bad);
    CHECK(contains(usage_message([&] { parse_seed(bad); }), fmt::format("'{}'", bad)));
  }
}

TEST_CASE("a column has one unit: that of its smallest value") {
  const std::vector<double> bytes = {1540, 98800, 5820000, 0};
  const UnitPrefix prefix = common_prefix(bytes);
  CHECK(prefix.letter == "k");
  CHECK(format_with(1540, prefix, "B") == "1.54 kB");
  CHECK(format_with(98800, prefix, "B") == "98.8 kB");
  CHECK(format_with(5820000, prefix, "B") == "5,820 kB");
  CHECK(format_with(0, prefix, "B") == "0 kB");
  CHECK(format_with(-5820000, prefix, "B") == "-5,820 kB");
  CHECK(format_with(98304, common_prefix(std::vector<double>{384, 98304}), "") == "98,304");
  CHECK(format_with(10.7e6, common_prefix(std::vector<double>{10.7e6}), "") == format_count(10.7e6));
  CHECK(common_prefix(std::vector<double>{1, 5e15}).letter == "M");  // not more than three steps below the largest
  CHECK(common_prefix(std::vector<double>{}).letter == "");
  CHECK(common_prefix(std::vector<double>{0, std::nan("")}).scale == 1);
}
